package cache

import (
	"bytes"
	"testing"

	"github.com/sbx-action/sbx-action/action"
)

// TestDoubt has two damaged blobs, and one that is whole. Who doubts one of them finds
// them all out.
func TestDoubt(t *testing.T) {
	for _, readOnly := range []bool{false, true} {
		ctx, dir := t.Context(), TempStoreDir(t)
		s := boot(t, dir, "one", 0, Options{})
		var list []action.Digest
		data := [][]byte{[]byte("one of them"), bytes.Repeat([]byte("two"), 1000), []byte("the third")}
		for _, b := range data {
			d, err := s.PutBytes(ctx, action.BLAKE3, b)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, d)
		}
		s = boot(t, dir, "one", 0, Options{ReadOnly: readOnly})
		spoil(t, s.shard("blob", list[0]))
		spoil(t, s.shard("blob", list[1]))
		if err := s.Doubt(ctx, list[2]); err != nil || !s.Has(ctx, list[0]) || !s.Has(ctx, list[2]) {
			t.Errorf("%v: the one that is whole is doubted: %v, and then others are not believed", readOnly, err)
		}
		if err := action.Doubted(ctx, s, list[0]); err == nil || s.Has(ctx, list[0]) || s.Has(ctx, list[1]) || !s.Has(ctx, list[2]) {
			t.Errorf("%v: a damaged one is doubted: %v, and there are %v %v %v", readOnly, err, s.Has(ctx, list[0]), s.Has(ctx, list[1]), s.Has(ctx, list[2]))
		}
		if readOnly {
			continue
		}
		for i, b := range data {
			if _, err := s.PutBytes(ctx, action.BLAKE3, b); err != nil || !s.Has(ctx, list[i]) {
				t.Errorf("not healed: %v", err)
			}
		}
		if r, err := s.Verify(ctx, nil); err != nil || len(r.Damaged) > 0 {
			t.Errorf("after all: %v, %v", r, err)
		}
	}
}
