package backends

import (
	"reflect"
	"strings"
	"testing"
)

func TestDegrade(t *testing.T) {
	zero := 0
	spec := &Spec{
		Args: []string{"x"}, Observe: true, Network: NetworkNone, Filter: make([]byte, 8),
		Limits: Limits{Wall: 1, Memory: 1, Pids: 1, FileSize: 1, Scratch: 1},
		Root:   Root{ReadOnly: true, Writable: []string{"/a"}, Tmpfs: []string{"/t"}, As: &zero, Group: &zero, InPlace: true},
	}
	able := Capabilities{
		OwnRoot:     true,
		NetworkNone: true, NetworkHost: true, Mounts: true, Observe: true, Users: true, Filters: true,
		MemoryLimit: Exact, PidsLimit: PerProc, FileLimit: true, ScratchLimit: true,
	}
	if got, dropped := Degrade(spec, able); dropped != nil || !reflect.DeepEqual(got, spec) {
		t.Errorf("a backend that can do all of it: %+v, dropped %q", got, dropped)
	}
	got, dropped := Degrade(spec, Capabilities{NetworkHost: true})
	want := &Spec{Args: []string{"x"}, Network: NetworkHost, Limits: Limits{Wall: 1}, Root: Root{InPlace: true}}
	if !reflect.DeepEqual(got, want) || len(dropped) != 10 {
		t.Errorf("a backend that can do none of it: %+v, dropped %d: %q", got, len(dropped), dropped)
	}
	if spec.Network != NetworkNone || !spec.Root.ReadOnly {
		t.Errorf("the original was changed: %+v", spec)
	}
	if again, dropped := Degrade(got, Capabilities{NetworkHost: true}); dropped != nil || !reflect.DeepEqual(again, got) {
		t.Errorf("degraded twice: %+v, %q", again, dropped)
	}
	if _, dropped := Degrade(&Spec{}, Capabilities{NetworkHost: true}); len(dropped) != 2 || !strings.Contains(dropped[0], "paths of the host") || !strings.Contains(dropped[1], "network") {
		t.Errorf("a plain spec: dropped %q", dropped)
	}
}
