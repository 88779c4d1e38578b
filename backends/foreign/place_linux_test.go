package foreign

import (
	"testing"

	"github.com/sbx-action/sbx-action/backends"
)

func TestMountPlace(t *testing.T) {
	place, err := mountPlace("/usr/bin/bwrap", &backends.Root{})
	if err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{place, place + "/below"} {
		got, err := mountPlace("", &backends.Root{Binds: []backends.Bind{{Source: source, Target: "/x"}}})
		if err != nil || got == place {
			t.Errorf("with %s shown: %s, %v; want another place than %s", source, got, err, place)
		}
	}
	if got, err := mountPlace("", &backends.Root{Binds: []backends.Bind{{Source: "/", Target: "/x"}}}); err == nil {
		t.Errorf("with the whole host shown: %s, want an error", got)
	}
}
