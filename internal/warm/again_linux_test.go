package warm

import (
	"os"
	"path/filepath"
	"testing"
)

// A group's leader and its parent are counted apart, whatever their numbers are.
func TestAgain(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "missed"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd := int(f.Fd())
	for _, parent := range []int{1000 + 40*slots, 1001} {
		leader := 1000
		if again(fd, leader, many) || again(fd, parent, manyApart) {
			t.Error("the first miss is said to be one more")
		}
		if !again(fd, leader, many) {
			t.Errorf("parent %d: the leader's second miss is not known to be one", parent)
		}
		again(fd, parent, manyApart)
		if !again(fd, parent, manyApart) {
			t.Errorf("parent %d: its third miss is not known to be one", parent)
		}
		if again(fd, parent, 0) || again(fd, parent, manyApart) {
			t.Errorf("parent %d: what was begun anew was counted on", parent)
		}
		again(fd, leader+slots, many) // another build's: the slot is its own from now on
	}
}
