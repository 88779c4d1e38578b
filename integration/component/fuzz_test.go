package component

import "testing"

// FuzzParseSource: what ParseSource takes, String gives back.
func FuzzParseSource(f *testing.F) {
	for _, s := range []string{"dir:/x", "tar:a#0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a", "git:/x@y@v1", "dsc:a", "git:@"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		src, err := ParseSource(s)
		if err != nil {
			return
		}
		again, err := ParseSource(src.String())
		if err != nil || again.String() != src.String() {
			t.Errorf("%q is %q, then %v, %v", s, src, again, err)
		}
	})
}

// FuzzGlob: a glob is an error or an expression that compiles.
func FuzzGlob(f *testing.F) {
	for _, s := range []string{"usr/{a,b}/**", "x[!a-z]?", "re:(", "{", "[]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if e, err := globRegexp([]string{s}); err == nil {
			e.MatchString(s)
		}
	})
}

// FuzzQuote: a shell gives back what was quoted, so no quote stands alone.
func FuzzQuote(f *testing.F) {
	f.Add("it's")
	f.Fuzz(func(t *testing.T, s string) {
		q, inside, back := quote(s), false, ""
		for i := 0; i < len(q); i++ {
			switch {
			case q[i] == '\'':
				inside = !inside
			case !inside && q[i] == '\\':
				i++
				back += string(q[i])
			default:
				back += string(q[i : i+1])
			}
		}
		if inside || back != s {
			t.Errorf("%q is quoted as %q, which is %q", s, q, back)
		}
	})
}
