package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/action"
)

// A list is a flag that may be given more than once.
type list []string

func (l *list) String() string { return strings.Join(*l, " ") }

func (l *list) Set(s string) error {
	if s == "" {
		return fmt.Errorf("it must not be empty")
	}
	*l = append(*l, s)
	return nil
}

// A given is text that must not be empty: an empty path is nearly always a
// variable of a Makefile that was not set.
type given string

func (g *given) String() string { return string(*g) }

func (g *given) Set(s string) error {
	if s == "" {
		return fmt.Errorf("it must not be empty: is a variable not set?")
	}
	*g = given(s)
	return nil
}

// A size is a number of bytes: "512M", "2GiB", "4096".
type size int64

func (s *size) String() string { return strconv.FormatInt(int64(*s), 10) }

func (s *size) Set(text string) error {
	digits := strings.TrimRight(text, "BbIiKkMmGgTt")
	unit := strings.ToUpper(text[len(digits):])
	shift, ok := map[string]int{
		"": 0, "B": 0, "K": 10, "KB": 10, "KIB": 10, "M": 20, "MB": 20, "MIB": 20,
		"G": 30, "GB": 30, "GIB": 30, "T": 40, "TB": 40, "TIB": 40,
	}[unit]
	n, err := strconv.ParseFloat(digits, 64)
	if !ok || err != nil || math.IsNaN(n) || n <= 0 || n*math.Pow(2, float64(shift)) >= math.MaxInt64 {
		return fmt.Errorf("want a positive size in bytes, such as 512M or 2GiB")
	}
	*s = size(n * math.Pow(2, float64(shift)))
	return nil
}

// A count is a positive whole number.
type count int64

func (c *count) String() string { return strconv.FormatInt(int64(*c), 10) }

func (c *count) Set(text string) error {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n <= 0 {
		return fmt.Errorf("want a whole number above 0")
	}
	*c = count(n)
	return nil
}

// A span is a duration: "90s", "5m", "1h30m", or seconds without a unit.
type span time.Duration

func (s *span) String() string {
	if *s == 0 {
		return ""
	}
	return time.Duration(*s).String()
}

func (s *span) Set(text string) error {
	d, err := parseSpan(text)
	if err != nil || d <= 0 {
		return fmt.Errorf("want a positive duration, such as 90s, 5m or 1h30m")
	}
	*s = span(d)
	return nil
}

func parseSpan(text string) (time.Duration, error) {
	if n, err := strconv.ParseFloat(text, 64); err == nil {
		if math.IsNaN(n) || math.Abs(n) > float64(math.MaxInt64/time.Second) {
			return 0, fmt.Errorf("out of range")
		}
		return time.Duration(n * float64(time.Second)), nil
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseFloat(days, 64)
		if err == nil && math.Abs(n) < 100_000 {
			return time.Duration(n * 24 * float64(time.Hour)), nil
		}
	}
	return time.ParseDuration(text)
}

// A function is the name of a digest function.
type function struct{ action.Function }

func (f *function) Set(text string) (err error) {
	f.Function, err = action.ParseFunction(text)
	return err
}

func (f *function) String() string {
	if f.Function == 0 {
		return ""
	}
	return f.Function.String()
}
