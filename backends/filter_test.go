package backends

import (
	"strings"
	"testing"
)

func TestCheckFilter(t *testing.T) {
	for n, want := range map[int]string{0: "empty", 1: "1 bytes", 8: "", 12: "12 bytes", 8 * FilterMax: "", 8*FilterMax + 8: "4097 instructions"} {
		err := CheckFilter(make([]byte, n))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%d bytes: %v, want %q", n, err, want)
		}
	}
}

func TestHasUser(t *testing.T) {
	other, own := 4, ID
	for _, c := range []struct {
		as, group *int
		want      bool
	}{{nil, nil, false}, {&own, &own, false}, {&other, nil, true}, {nil, &other, true}, {&own, &other, true}} {
		if got := (&Root{As: c.as, Group: c.group}).HasUser(); got != c.want {
			t.Errorf("%v, %v: %v", c.as, c.group, got)
		}
	}
}
