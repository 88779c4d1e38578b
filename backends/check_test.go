package backends

import (
	"context"
	"errors"
	"syscall"
	"testing"
)

// TestSpecCheck breaks a good spec in one way after the other.
func TestSpecCheck(t *testing.T) {
	good := func() *Spec {
		return &Spec{
			Args: []string{"/bin/true"}, Dir: "/", Filter: make([]byte, 8), Vary: &Vary{WorkDir: "/v"},
			Root: Root{
				Lowers: []Layer{{Dir: "/l"}, {Image: "/i"}}, Data: "/d", ScratchDir: "/s", Tmpfs: []string{"/t"}, Writable: []string{"/w"},
				Binds: []Bind{{Source: "/a", Target: "/b"}},
			},
		}
	}
	if err := good().Check(); err != nil {
		t.Fatalf("control: %v", err)
	}
	for name, breakIt := range map[string]func(*Spec){
		"no arguments":            func(s *Spec) { s.Args = nil },
		"no directory":            func(s *Spec) { s.Dir = "" },
		"a relative directory":    func(s *Spec) { s.Dir = "x" },
		"a directory with dots":   func(s *Spec) { s.Dir = "/x/.." },
		"a negative limit":        func(s *Spec) { s.Limits.Pids = -1 },
		"an empty filter":         func(s *Spec) { s.Filter = []byte{} },
		"an empty layer":          func(s *Spec) { s.Root.Lowers[0] = Layer{} },
		"a layer of two kinds":    func(s *Spec) { s.Root.Lowers[0].Image = "/i" },
		"a layer's path":          func(s *Spec) { s.Root.Lowers[1].Image = "i" },
		"data without layers":     func(s *Spec) { s.Root.Lowers = nil },
		"the path of data":        func(s *Spec) { s.Root.Data = "/d/" },
		"the path of the scratch": func(s *Spec) { s.Root.ScratchDir = "./s" },
		"a bind's source":         func(s *Spec) { s.Root.Binds[0].Source = "a" },
		"a bind's target":         func(s *Spec) { s.Root.Binds[0].Target = "" },
		"a tmpfs":                 func(s *Spec) { s.Root.Tmpfs[0] = "t" },
		"what is writable":        func(s *Spec) { s.Root.Writable[0] = "/w/" },
		"a varied directory":      func(s *Spec) { s.Vary.WorkDir = "v" },
	} {
		s := good()
		breakIt(s)
		if err := s.Check(); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("%s: %v, want EINVAL", name, err)
		}
	}
}

func TestRunChecked(t *testing.T) {
	no, cause := errors.New("no"), errors.New("the cause")
	done, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	pass := func(*Spec) error { return nil }
	for name, c := range map[string]struct {
		ctx    context.Context
		spec   *Spec
		refuse func(*Spec) error
		ran    error
		want   error
		text   string
	}{
		"good":             {t.Context(), &Spec{Args: []string{"x"}, Dir: "/"}, pass, nil, nil, ""},
		"wrong":            {t.Context(), &Spec{Dir: "/"}, pass, nil, syscall.EINVAL, "run nothing: no arguments: invalid argument"},
		"refused":          {t.Context(), &Spec{Args: []string{"x"}, Dir: "/"}, func(*Spec) error { return no }, nil, no, "run x: no"},
		"over":             {done, &Spec{Args: []string{"x"}, Dir: "/"}, pass, nil, cause, "run x: the cause"},
		"could not run it": {t.Context(), &Spec{Args: []string{"x"}, Dir: "/"}, pass, no, no, "run x: no"},
	} {
		ran := false
		st, err := RunChecked(c.ctx, c.spec, c.refuse, func(context.Context, *Spec) (*Status, error) { ran = true; return &Status{}, c.ran })
		if !errors.Is(err, c.want) || err != nil && err.Error() != c.text || (st != nil) != (err == nil) {
			t.Errorf("%s: %v, %v; want %q", name, st, err, c.text)
		}
		if want := name == "good" || c.ran != nil; ran != want {
			t.Errorf("%s: ran: %v, want %v", name, ran, want)
		}
	}
}
