package await

import (
	"context"
	"errors"
	"testing"
)

func TestDone(t *testing.T) {
	failed, ended := errors.New("failed"), errors.New("ended")
	if v, err := Done(t.Context(), func() (int, error) { return 7, failed }); v != 7 || err != failed {
		t.Errorf("got %d, %v", v, err)
	}
	ctx, end := context.WithCancelCause(t.Context())
	waiting, never := make(chan bool), make(chan bool)
	defer close(never)
	go func() {
		<-waiting
		end(ended)
	}()
	v, err := Done(ctx, func() (int, error) {
		waiting <- true
		<-never
		return 7, nil
	})
	if v != 0 || err != ended {
		t.Errorf("what never comes: got %d, %v", v, err)
	}
}
