package staging

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestHostViewNote: what a note says of the machine that we run on is what
// looking says, and what is not a note of this state is not believed.
func TestHostViewNote(t *testing.T) {
	s, _ := newStager(t, modes()[0])
	want := &hostView{}
	if err := want.look(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // without a note, and with it, unless the machine is in motion
		have := &hostView{}
		if err := s.know(t.Context(), have); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(have.binds, want.binds) || !slices.Equal(have.files, want.files) || !maps.Equal(have.links, want.links) {
			t.Errorf("%+v, want %+v", have, want)
		}
	}
	state, _ := want.state()
	note := string(want.encode(state))
	have := &hostView{}
	if !have.decode(note, state) || !slices.Equal(have.binds, want.binds) || !slices.Equal(have.files, want.files) || !maps.Equal(have.links, want.links) {
		t.Errorf("%+v, want %+v", have, want)
	}
	for _, bad := range []string{"", note[1:], note[:len(note)-1], note + "x\n", note + "b \"a\n", note + "l \"a\"\n", note + "\n"} {
		if h := (&hostView{}); h.decode(bad, state) || h.binds != nil || h.links != nil {
			t.Errorf("%q was believed", bad)
		}
	}
}

// TestHostViewChanges: a view follows the host, note or not.
func TestHostViewChanges(t *testing.T) {
	host := fakeRoot(t, spec{"usr/bin/": "", "etc/ld.so.cache": "", "var/lib/": "", "nix/": ""})
	s, _ := newStager(t, modes()[0])
	view := func() string {
		h := &hostView{root: host}
		if err := s.know(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		return string(h.encode(""))
	}
	before, _ := (&hostView{root: host}).state()
	seen := view()
	for _, dir := range []string{"/opt", "/etc/java-17", "/var/lib/ghc", "/nix/store"} {
		if err := os.Mkdir(host+dir, 0o755); err != nil {
			t.Fatal(err)
		}
		after, _ := (&hostView{root: host}).state()
		if now := view(); now == seen || after == before {
			t.Errorf("%s is not seen: %q, state %q", dir, now, after)
		} else {
			seen, before = now, after
		}
	}
}

// TestEtcWithinATick writes a file of /etc twice, with as many bytes, so fast
// that its times may be the same, and wants each content shown.
func TestEtcWithinATick(t *testing.T) {
	host := fakeRoot(t, spec{"usr/bin/": "", "etc/ld.so.cache": "0000"})
	s, _ := newStager(t, modes()[0])
	for i := range 200 {
		text := fmt.Sprintf("%04d", i)
		if err := os.WriteFile(filepath.Join(host, "etc/ld.so.cache"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		p, err := s.stageHost(t.Context(), &hostView{root: host})
		if err != nil {
			t.Fatal(err)
		}
		if got := readSpec(t, p.binds[0].Source)["ld.so.cache"]; got != text {
			t.Fatalf("round %d: /etc/ld.so.cache is %q, want %q", i, got, text)
		}
	}
}
