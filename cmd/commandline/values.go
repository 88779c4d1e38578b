package commandline

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/action"
)

// A List is a flag that may be given more than once.
type List []string

func (l *List) String() string { return strings.Join(*l, " ") }

func (l *List) Set(s string) error {
	if s == "" {
		return fmt.Errorf("it must not be empty")
	}
	*l = append(*l, s)
	return nil
}

// A Given is text that must not be empty: an empty path is nearly always a
// variable of a Makefile that was not set.
type Given string

func (g *Given) String() string { return string(*g) }

func (g *Given) Set(s string) error {
	if s == "" {
		return fmt.Errorf("it must not be empty: is a variable not set?")
	}
	*g = Given(s)
	return nil
}

// A Size is a number of bytes: "512M", "2GiB", "4096".
type Size int64

func (s *Size) String() string { return strconv.FormatInt(int64(*s), 10) }

func (s *Size) Set(text string) error {
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
	*s = Size(n * math.Pow(2, float64(shift)))
	return nil
}

// A Count is a positive whole number.
type Count int64

func (c *Count) String() string { return strconv.FormatInt(int64(*c), 10) }

func (c *Count) Set(text string) error {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n <= 0 {
		return fmt.Errorf("want a whole number above 0")
	}
	*c = Count(n)
	return nil
}

// A Span is a duration: "90s", "5m", "1h30m", or seconds without a unit.
type Span time.Duration

func (s *Span) String() string {
	if *s == 0 {
		return ""
	}
	return time.Duration(*s).String()
}

func (s *Span) Set(text string) error {
	d, err := parseSpan(text)
	if err != nil || d <= 0 {
		return fmt.Errorf("want a positive duration, such as 90s, 5m or 1h30m")
	}
	*s = Span(d)
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

// A Function is the name of a digest function.
type Function struct{ action.Function }

func (f *Function) Set(text string) (err error) {
	f.Function, err = action.ParseFunction(text)
	if err == nil && f.Function != action.SHA256 && f.Function != action.BLAKE3 {
		err = fmt.Errorf("%q is for clients of a server: use sha256 or blake3", text)
	}
	return err
}

func (f *Function) String() string {
	if f.Function == 0 {
		return ""
	}
	return f.Function.String()
}

// HumanSize writes a number of bytes with three digits or so.
func HumanSize(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/1024, 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	return fmt.Sprintf("%.1f %ciB", v, units[i])
}
