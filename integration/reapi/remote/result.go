package remote

import (
	"context"
	"errors"
	"fmt"
	"io"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	rexec "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sbx-action/sbx-action/action"
)

// Result returns the result that the server has under key, or an error
// wrapping [action.ErrMiss]. What it names may or may not be there.
func (c *Client) Result(ctx context.Context, key action.Digest) (*action.Result, error) {
	var m *rexec.ActionResult
	err := c.call(ctx, func(ctx context.Context) (err error) {
		m, err = c.results.GetActionResult(ctx, &rexec.GetActionResultRequest{
			InstanceName: c.instance, ActionDigest: ToDigest(key), DigestFunction: rexec.DigestFunction_Value(key.Function()),
		})
		return err
	})
	if status.Code(err) == codes.NotFound {
		return nil, fmt.Errorf("result %v: not on %v: %w", key, c.addr, action.ErrMiss)
	}
	if err != nil {
		return nil, fmt.Errorf("result %v: %w", key, err)
	}
	res, err := fromResult(m, key.Function())
	if err != nil {
		return nil, fmt.Errorf("result %v of %v: %w: %w", key, c.addr, err, action.ErrMiss)
	}
	return res, nil
}

// PutResult puts a result under key. Everything that it names must be there.
func (c *Client) PutResult(ctx context.Context, key action.Digest, m *rexec.ActionResult) error {
	err := c.call(ctx, func(ctx context.Context) error {
		_, err := c.results.UpdateActionResult(ctx, &rexec.UpdateActionResultRequest{
			InstanceName: c.instance, ActionDigest: ToDigest(key), ActionResult: m,
			DigestFunction: rexec.DigestFunction_Value(key.Function()),
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("put result %v on %v: %w", key, c.addr, err)
	}
	return nil
}

// Names are the digests of all blobs that res names, but for those that its
// trees name: see [Client.DownloadResult].
func Names(res *action.Result) (blobs, trees, dirs []action.Digest) {
	for i := range res.Files {
		blobs = append(blobs, res.Files[i].Digest)
	}
	for _, d := range []action.Digest{res.Stdout, res.Stderr} {
		if !d.IsZero() {
			blobs = append(blobs, d)
		}
	}
	for i := range res.Directories {
		if d := res.Directories[i].Tree; !d.IsZero() {
			trees = append(trees, d)
		}
		if d := res.Directories[i].Root; !d.IsZero() {
			dirs = append(dirs, d)
		}
	}
	return blobs, trees, dirs
}

// DownloadResult sees to it that dst has every blob that res names, also those
// that its trees name.
func (c *Client) DownloadResult(ctx context.Context, dst Store, res *action.Result) error {
	blobs, trees, dirs := Names(res)
	if err := c.Download(ctx, dst, append(trees, blobs...)); err != nil {
		return err
	}
	var below []action.Digest
	for _, d := range trees {
		tree, err := readTree(ctx, dst, d)
		if err != nil {
			return err
		}
		below = append(below, treeFiles(tree)...)
	}
	if err := c.Download(ctx, dst, below); err != nil {
		return err
	}
	for _, d := range dirs {
		if _, err := c.DownloadTree(ctx, dst, d, TreeOptions{}); err != nil {
			return err
		}
	}
	return nil
}

func readTree(ctx context.Context, src Source, d action.Digest) (*action.Tree, error) {
	data, err := ReadMessage(ctx, src, d)
	if err != nil {
		return nil, err
	}
	tree, err := action.ParseTree(data, d.Function())
	if err != nil {
		return nil, &MalformedError{d, err}
	}
	return tree, nil
}

func treeFiles(tree *action.Tree) (files []action.Digest) {
	for _, dir := range append([]action.Directory{tree.Root}, tree.Children...) {
		for i := range dir.Files {
			files = append(files, dir.Files[i].Digest)
		}
	}
	return files
}

// UploadResult sees to it that the server has every blob that res, all of whose
// blobs src has, names.
func (c *Client) UploadResult(ctx context.Context, src Source, res *action.Result) error {
	blobs, trees, dirs := Names(res)
	for _, d := range trees {
		tree, err := readTree(ctx, src, d)
		if err != nil {
			return err
		}
		blobs = append(blobs, treeFiles(tree)...)
	}
	if err := c.Upload(ctx, src, append(blobs, trees...)); err != nil {
		return err
	}
	for _, d := range dirs {
		if err := c.UploadTree(ctx, src, d); err != nil {
			return err
		}
	}
	return nil
}

// An Execution is what the server made of an action.
type Execution struct {
	Result *action.Result
	Cached bool
	Status error // nil, or why the result is not one of the action alone
	// Message is what the server has to say to people.
	Message string
}

// Execute executes the action key on the server, which must have it and all
// that it names. stage is called with each stage that the server tells of.
//
// If the connection breaks, it goes on waiting for the same execution. When ctx
// is done, it asks the server to cancel, without waiting for it.
func (c *Client) Execute(ctx context.Context, key action.Digest, skipLookup bool, stage func(rexec.ExecutionStage_Value)) (*Execution, error) {
	var name string // of the operation, once known
	var done *Execution
	err := c.again(ctx, func() (progress bool, err error) {
		before := name
		done, err = c.follow(ctx, key, skipLookup, &name, stage)
		if status.Code(err) == codes.NotFound && before != "" { // the server has forgotten it
			name = ""
			return true, status.Error(codes.Unavailable, err.Error())
		}
		return name != before, err
	})
	if ctx.Err() != nil && name != "" {
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.opts.timeout())
		go func() {
			defer cancel()
			_, _ = longrunningpb.NewOperationsClient(c.conn).CancelOperation(call, &longrunningpb.CancelOperationRequest{Name: name})
		}()
	}
	if err != nil {
		return nil, fmt.Errorf("execute %v on %v: %w", key, c.addr, err)
	}
	return done, nil
}

// operations is what Execute and WaitExecution return.
type operations interface {
	Recv() (*longrunningpb.Operation, error)
}

// follow begins an execution, or waits for one that was begun, until it ends or
// the connection does.
func (c *Client) follow(ctx context.Context, key action.Digest, skipLookup bool, name *string, stage func(rexec.ExecutionStage_Value)) (*Execution, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var stream operations
	var err error
	if *name == "" {
		stream, err = c.execs.Execute(ctx, &rexec.ExecuteRequest{
			InstanceName: c.instance, ActionDigest: ToDigest(key), SkipCacheLookup: skipLookup,
			DigestFunction: rexec.DigestFunction_Value(key.Function()),
		})
	} else {
		stream, err = c.execs.WaitExecution(ctx, &rexec.WaitExecutionRequest{Name: *name})
	}
	if err != nil {
		return nil, err
	}
	for {
		op, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil, status.Error(codes.Unavailable, "the server ended the stream before the action was done")
		}
		if err != nil {
			return nil, err
		}
		*name = op.Name
		meta := new(rexec.ExecuteOperationMetadata)
		if op.Metadata.MessageIs(meta) && op.Metadata.UnmarshalTo(meta) == nil && stage != nil {
			stage(meta.Stage)
		}
		if op.Done {
			return finished(op, key.Function())
		}
	}
}

func finished(op *longrunningpb.Operation, f action.Function) (*Execution, error) {
	if e := op.GetError(); e != nil {
		return nil, status.FromProto(e).Err()
	}
	resp := new(rexec.ExecuteResponse)
	if err := op.GetResponse().UnmarshalTo(resp); err != nil {
		return nil, fmt.Errorf("the answer cannot be read: %w", err)
	}
	e := &Execution{Cached: resp.CachedResult, Message: resp.Message, Status: status.FromProto(resp.Status).Err()}
	if resp.Result == nil {
		if e.Status == nil {
			return nil, errors.New("the answer has no result")
		}
		return e, nil
	}
	var err error
	e.Result, err = fromResult(resp.Result, f)
	return e, err
}
