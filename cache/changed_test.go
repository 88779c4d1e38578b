package cache

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/sbx-action/sbx-action/action"
)

// TestChanged changes a blob and puts all its times back, as whoever hides it may. The
// store sees that it was changed, and reads it; one that is whole is read once.
func TestChanged(t *testing.T) {
	for _, readOnly := range []bool{false, true} {
		ctx, st := t.Context(), storeOnBoot(t, "one")
		s := boot(t, st.dir, "one", 0, Options{ReadOnly: readOnly})
		path := s.shard("blob", st.file)
		back := func() {
			t.Helper()
			fi := statFile(t, path)
			if err := os.Chtimes(path, time.Now().Add(-time.Second), fi.MTime); err != nil {
				t.Fatal(err)
			}
		}
		back()
		if !s.Has(ctx, st.file) {
			t.Fatalf("read-only %v: it is whole", readOnly)
		}
		if fi := statFile(t, path); s.changed(&fi) != readOnly {
			t.Errorf("read-only %v: changed = %v after it was read", readOnly, s.changed(&fi))
		}
		spoil(t, path) // Control: it is not read each time.
		if s := boot(t, st.dir, "one", 0, Options{}); !s.Has(ctx, st.file) {
			t.Errorf("read-only %v: it is read without need", readOnly)
		}

		back()
		s = boot(t, st.dir, "one", 0, Options{ReadOnly: readOnly})
		if _, err := s.Open(ctx, st.file); !errors.Is(err, action.ErrMiss) || s.Has(ctx, st.file) {
			t.Errorf("read-only %v: Open of what was changed: %v", readOnly, err)
		}
		if _, err := s.Result(ctx, st.key); !errors.Is(err, action.ErrMiss) {
			t.Errorf("read-only %v: Result with what was changed: %v", readOnly, err)
		}
		if readOnly {
			continue
		}
		if _, err := s.PutBytes(ctx, action.BLAKE3, st.data); err != nil || !s.Has(ctx, st.file) {
			t.Errorf("not healed: %v", err)
		}
		if data, err := os.ReadFile(path); err != nil || !bytes.Equal(data, st.data) {
			t.Errorf("after it was healed: %v", err)
		}
	}
}

// TestVagueTimes has a clock that is behind that of the file system: what the store
// reads once for its time alone, and cannot mend, makes it leave times alone.
func TestVagueTimes(t *testing.T) {
	ctx, st := t.Context(), storeOnBoot(t, "one")
	s := boot(t, st.dir, "one", -time.Hour, Options{})
	if err := os.Chtimes(s.shard("blob", st.file), time.Now().Add(-time.Hour), time.Time{}); err != nil {
		t.Fatal(err)
	}
	if !s.Has(ctx, st.file) || !s.vague.Load() {
		t.Error("times are believed that are another clock's")
	}
}
