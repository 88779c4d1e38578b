package agent

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi/remote"
	"github.com/sbx-action/sbx-action/staging"
)

// # What is known of an action
//
// The key of an action on the host's root file system is only known to those who
// have run it: it has in it what the command saw of the host. A machine that has
// not run it needs the lists of what others saw, to find the one that holds here
// too. Those lists, a note, are shared under a key of their own: that of the
// action whose command is "sbx-action-note 1 DIGEST", with the digest of the
// unsealed action, and which has no inputs. What it "prints" is the note. Nobody
// executes it; but it is a proper action, and any server keeps its result.
//
// A note says nothing that must be believed: each list is compared with the host
// before its key is used, and the key is the digest of the list.

// noteAction is the action under whose digest the note of key is.
func noteAction(key action.Digest) (*action.Action, *action.Command) {
	f := key.Function()
	c := &action.Command{Arguments: []string{"sbx-action-note", "1", key.String()}}
	return &action.Action{Command: c.Digest(f), InputRoot: action.Sum(f, nil)}, c
}

// noteInline is up to where a note is in the result itself.
const noteInline = 256 << 10

// remoteNote gets the remote's note of an unsealed action.
func (u *upstream) remoteNote(ctx context.Context, key action.Digest) ([]byte, error) {
	act, _ := noteAction(key)
	res, err := u.client.Result(ctx, act.Digest(key.Function()))
	if err != nil {
		return nil, err
	}
	if len(res.StdoutRaw) > 0 || res.Stdout.IsZero() {
		return res.StdoutRaw, nil
	}
	if err := u.client.Download(ctx, u.store, []action.Digest{res.Stdout}); err != nil {
		return nil, err
	}
	return remote.ReadMessage(ctx, u.store, res.Stdout)
}

// note adds the remote's note of an unsealed action to the store's. It is a miss
// if that has nothing new.
func (u *upstream) note(ctx context.Context, key action.Digest) error {
	return u.ask(ctx, key.Function(), func(ctx context.Context) error {
		theirs, err := u.remoteNote(ctx, key)
		if err != nil {
			return err
		}
		ours, err := u.store.Note(ctx, key)
		if err != nil && !errors.Is(err, action.ErrMiss) {
			return err
		}
		merged, more, err := staging.MergeNotes(ours, theirs)
		if err != nil {
			return fmt.Errorf("the note of %v: %w: %w", key, err, action.ErrMiss)
		}
		if !more {
			return fmt.Errorf("the note of %v has nothing new: %w", key, action.ErrMiss)
		}
		return u.store.PutNote(ctx, key, merged)
	})
}

// sendNote adds what is known here of the action that sealed is one of to what
// the remote knows. Two that do so at the same time may lose one another's; the
// next that runs or hits nothing adds it again.
func (u *upstream) sendNote(ctx context.Context, sealed *action.Action) error {
	f := sealed.Command.Function()
	key := staging.Unsealed(sealed).Digest(f)
	if key == sealed.Digest(f) {
		return nil // its root file system is a tree: it needs no note
	}
	ours, err := u.store.Note(ctx, key)
	if errors.Is(err, action.ErrMiss) {
		return nil
	}
	if err != nil {
		return err
	}
	theirs, err := u.remoteNote(ctx, key)
	if err != nil && !errors.Is(err, action.ErrMiss) {
		return err
	}
	merged, more, err := staging.MergeNotes(theirs, ours)
	if err != nil { // what they have is of no use to anybody
		if merged, more, err = staging.MergeNotes(nil, ours); err != nil {
			return err
		}
	}
	if !more {
		return nil
	}
	return u.putNote(ctx, key, merged)
}

func (u *upstream) putNote(ctx context.Context, key action.Digest, note []byte) error {
	f := key.Function()
	act, command := noteAction(key)
	digests := []action.Digest{act.Command, act.Digest(f)}
	for _, m := range [][]byte{act.Marshal(), command.Marshal()} {
		if _, err := u.store.PutBytes(ctx, f, m); err != nil {
			return err
		}
	}
	res := &action.Result{StdoutRaw: note}
	if len(note) > noteInline {
		d, err := u.store.PutBytes(ctx, f, note)
		if err != nil {
			return err
		}
		res = &action.Result{Stdout: d}
		digests = append(digests, d)
	}
	if err := u.client.Upload(ctx, u.store, digests); err != nil {
		return err
	}
	m, err := remote.ToResult(res)
	if err != nil {
		return err
	}
	err = u.client.PutResult(ctx, act.Digest(f), m)
	if status.Code(err) == codes.FailedPrecondition {
		u.client.Forget()
	}
	return err
}

// shareable says why a result must stay on this machine, or nil.
func shareable(res *action.Result) error {
	if res.ExitCode != 0 {
		return fmt.Errorf("the command failed with %d: failures are not shared", res.ExitCode)
	}
	return res.Shareable()
}
