package action

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

func keySample() (Action, Command) {
	c := Command{
		Arguments:        []string{"cc", "-c", "a b.c"},
		Environment:      []EnvironmentVariable{{"PATH", "/usr/bin:/bin"}},
		WorkingDirectory: "sub",
		OutputPaths:      []string{"../x", "a.o"},
	}
	return Action{
		Command: c.Digest(SHA256), InputRoot: (&Directory{}).Digest(SHA256),
		Timeout: time.Minute, Platform: []Property{{"ISA", "x86-64"}, {"rootfs", "host"}},
	}, c
}

func explain(t *testing.T, a Action, c Command) string {
	t.Helper()
	var b strings.Builder
	if err := Explain(&b, &a, &c); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestExplain(t *testing.T) {
	a, c := keySample()
	got, rest, _ := strings.Cut(explain(t, a, c), "not in the key:\n")
	want := fmt.Sprintf(`key: %v
in the key:
  command digest: %v
    argument 0: "cc"
    argument 1: "-c"
    argument 2: "a b.c"
    environment PATH: "/usr/bin:/bin"
    working directory: "sub"
    output path: "../x"
    output path: "a.o"
  input root digest: sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855/0
  timeout: 1m0s
  platform ISA: "x86-64"
  platform rootfs: "host"
`, a.Digest(SHA256), c.Digest(SHA256))
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if n := strings.Count(rest, "\n  - ") + 1; n != len(outside) {
		t.Errorf("%d things that are not in the key, want %d:\n%s", n, len(outside), rest)
	}
}

// TestExplainListsEveryField changes each field of Action and Command, by
// reflection, so that a new field cannot be forgotten.
func TestExplainListsEveryField(t *testing.T) {
	a, c := keySample()
	before := explain(t, a, c)
	body := func(s string) string { // without the digests, which always change
		var lines []string
		for line := range strings.Lines(s) {
			if !strings.HasPrefix(line, "key: ") && !strings.Contains(line, "command digest: ") {
				lines = append(lines, line)
			}
		}
		return strings.Join(lines, "")
	}
	check := func(field string, a Action, c Command) {
		a.Command = c.Digest(SHA256)
		after := explain(t, a, c)
		if a.Digest(SHA256).String() == before[len("key: "):strings.IndexByte(before, '\n')] {
			t.Errorf("%s changed and the key did not", field)
		}
		if body(after) == body(before) {
			t.Errorf("%s changed and the list did not", field)
		}
	}
	for i := range reflect.TypeFor[Command]().NumField() {
		_, c := keySample()
		change(t, reflect.ValueOf(&c).Elem().Field(i))
		check("Command."+reflect.TypeFor[Command]().Field(i).Name, a, c)
	}
	for i := range reflect.TypeFor[Action]().NumField() {
		name := reflect.TypeFor[Action]().Field(i).Name
		if name == "Command" { // every field of the Command
			continue
		}
		a, c := keySample()
		change(t, reflect.ValueOf(&a).Elem().Field(i))
		check("Action."+name, a, c)
	}
}

// change gives v another value that Check accepts.
func change(t *testing.T, v reflect.Value) {
	switch v.Interface().(type) {
	case Digest:
		v.Set(reflect.ValueOf(Sum(SHA256, []byte("other"))))
	case []string:
		v.Set(reflect.ValueOf([]string{"other"}))
	case []Property:
		v.Set(reflect.ValueOf([]Property{{"other", ""}}))
	case []EnvironmentVariable:
		v.Set(reflect.ValueOf([]EnvironmentVariable{{"other", ""}}))
	case string:
		v.SetString("other/deep") // "../x" must stay in the input root
	case []byte:
		v.SetBytes([]byte("other"))
	case bool:
		v.SetBool(!v.Bool())
	case int32, time.Duration:
		v.SetInt(v.Int() + 1)
	default:
		t.Fatalf("no other value for %v", v.Type())
	}
}

func TestExplainRefuses(t *testing.T) {
	good, c := keySample()
	other := c
	other.Arguments = []string{"ld"}
	bad := Command{}
	for name, v := range map[string]struct {
		a Action
		c Command
	}{
		"another command":  {good, other},
		"no command":       {Action{}, c},
		"no input root":    {Action{Command: good.Command}, c},
		"a command unsaid": {Action{Command: bad.Digest(SHA256), InputRoot: good.InputRoot}, bad},
	} {
		var b strings.Builder
		if err := Explain(&b, &v.a, &v.c); err == nil || b.Len() > 0 {
			t.Errorf("%s: %v, wrote %q", name, err, b.String())
		}
	}
	if err := Explain(fullDisk{}, &good, &c); !errors.Is(err, errFull) {
		t.Errorf("a writer that fails: %v", err)
	}
}

var errFull = errors.New("full")

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errFull }

func TestExplainQuotes(t *testing.T) {
	a, c := keySample()
	c.Arguments = []string{"a\nkey: forged", ""}
	c.Environment = []EnvironmentVariable{{"A\nB", "\n"}}
	a.Command = c.Digest(SHA256)
	a.Platform = []Property{{"x: y", "z"}}
	s := explain(t, a, c)
	for _, want := range []string{
		"    argument 0: \"a\\nkey: forged\"\n", "    argument 1: \"\"\n",
		"    environment \"A\\nB\": \"\\n\"\n", "  platform \"x: y\": \"z\"\n",
	} {
		if !strings.Contains(s, want) {
			t.Errorf("no line %q in\n%s", want, s)
		}
	}
}
