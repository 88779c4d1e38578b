// Package runner is a buildbarn.runner.Runner: it runs the commands of a stock
// bb_worker, which stages inputs and uploads outputs itself, in sandboxes of ours.
//
// The worker keeps each action in a directory below the build directory, which
// both see: the input root, two files for output, and more. A command here sees
//
//   - its input root, at /build, whatever its path on the host is, below a layer
//     that takes all it writes. So inputs that are hard links into the worker's
//     cache cannot be changed, by whatever the command does;
//   - a root file system of ours, a fresh /tmp, no network, no other process.
//
// When nothing of the command is alive any more, what it wrote is put into the
// input root on the host, in new files, for the worker to collect; what it
// removed is removed there.
package runner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/cache"
	pb "github.com/sbx-action/sbx-action/integration/reapi/worker/proto/runnerpb"
	"github.com/sbx-action/sbx-action/staging"
)

// Options of a [Server].
type Options struct {
	BuildDir string // absolute; the same directory as the worker's
	Backend  backends.Backend
	// Capabilities are those of Backend, as far as staging asks for them.
	Capabilities backends.Capabilities
	Store        *cache.Store // has the root file system, if that is a tree
	Rootfs       staging.Rootfs
	Limits       backends.Limits // of every command; Wall is not looked at
	Log          *slog.Logger
}

// A Server implements buildbarn.runner.Runner.
type Server struct {
	pb.UnimplementedRunnerServer
	opts Options
	root *os.Root // of the build directory
}

// New returns a server. The caller closes it.
func New(o Options) (*Server, error) {
	if !o.Capabilities.OverBinds {
		return nil, fmt.Errorf("the backend %s cannot show an input root below a layer of its own: see 'sbx-action backends'", o.Backend.Name())
	}
	root, err := os.OpenRoot(o.BuildDir)
	if err != nil {
		return nil, fmt.Errorf("build directory: %w", err)
	}
	return &Server{opts: o, root: root}, nil
}

// Close gives back what the server holds.
func (s *Server) Close() error { return s.root.Close() }

// CheckReadiness implements Runner.
func (s *Server) CheckReadiness(_ context.Context, req *pb.CheckReadinessRequest) (*emptypb.Empty, error) {
	if req.Path != "" {
		if _, err := s.root.Lstat(req.Path); err != nil {
			return nil, status.Errorf(codes.Internal, "%s is not there for the runner: is --build-dir %s the worker's build directory? %v", req.Path, s.opts.BuildDir, err)
		}
	}
	if c := s.opts.Backend.Capabilities(); !c.Works {
		return nil, status.Errorf(codes.Unavailable, "backend %s: %s", s.opts.Backend.Name(), c.Reason)
	}
	return &emptypb.Empty{}, nil
}

// Run implements Runner.
func (s *Server) Run(ctx context.Context, req *pb.RunRequest) (*pb.RunResponse, error) {
	inputs, dir, err := s.check(req)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	stdout, err := s.output(req.StdoutPath)
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "stdout_path: %v", err)
	}
	defer stdout.Close()
	stderr, err := s.output(req.StderrPath)
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "stderr_path: %v", err)
	}
	defer stderr.Close()
	if err := s.own(inputs); err != nil {
		return nil, status.Errorf(codes.Internal, "input root: %v", err)
	}
	root, err := s.stage(ctx, inputs)
	if err != nil {
		return nil, status.Errorf(codes.Internal, "root file system: %v", err)
	}
	limits := s.opts.Limits
	limits.Wall = wall(ctx)
	st, err := s.opts.Backend.Run(ctx, &backends.Spec{
		Root: root, Args: req.Arguments, Env: environment(req.EnvironmentVariables), Dir: dir,
		Stdout: stdout, Stderr: stderr, Limits: limits, KeepRoot: true,
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil, status.FromContextError(ctx.Err()).Err()
		}
		return nil, status.Errorf(codes.Internal, "run in the sandbox: %v", err)
	}
	defer st.Root.Close()
	if st.Start != nil {
		return nil, status.Errorf(codes.InvalidArgument, "the command could not be started: %v", st.Start)
	}
	if err := apply(st.Root, strconv.Itoa(len(root.Binds)-1), inputs); err != nil {
		return nil, status.Errorf(codes.Internal, "what the command wrote: %v", err)
	}
	switch {
	case st.TimedOut:
		return nil, status.Errorf(codes.DeadlineExceeded, "the command was killed after %v", limits.Wall)
	case st.OutOfMemory:
		return nil, status.Errorf(codes.ResourceExhausted, "the command was killed because it needed more than %d bytes of memory", limits.Memory)
	}
	return response(st)
}

func response(st *backends.Status) (*pb.RunResponse, error) {
	usage := &pb.POSIXResourceUsage{
		UserTime: durationpb.New(st.Usage.User), SystemTime: durationpb.New(st.Usage.System), MaximumResidentSetSize: st.Usage.MaxRSS,
	}
	if st.Signal != 0 {
		usage.TerminationSignal = strings.TrimPrefix(unix.SignalName(unix.Signal(st.Signal)), "SIG")
	}
	packed, err := anypb.New(usage)
	if err != nil {
		return nil, err
	}
	return &pb.RunResponse{ExitCode: int64(st.Code), ResourceUsage: []*anypb.Any{packed}}, nil
}

// check returns the input root on the host, and where the command starts in the
// sandbox.
func (s *Server) check(req *pb.RunRequest) (inputs, dir string, err error) {
	if len(req.Arguments) == 0 || req.Arguments[0] == "" {
		return "", "", errors.New("arguments: there is no command")
	}
	for _, a := range req.Arguments {
		if strings.ContainsRune(a, 0) {
			return "", "", fmt.Errorf("arguments: %q has a NUL byte", a)
		}
	}
	for name, value := range req.EnvironmentVariables {
		if err := action.CheckEnvironmentVariable(name, value); err != nil {
			return "", "", fmt.Errorf("environment_variables: %w", err)
		}
	}
	if !filepath.IsLocal(req.InputRootDirectory) {
		return "", "", fmt.Errorf("input_root_directory %q is not below the build directory", req.InputRootDirectory)
	}
	info, err := s.root.Stat(req.InputRootDirectory)
	if err != nil || !info.IsDir() {
		return "", "", fmt.Errorf("input_root_directory %q is not a directory: %w", req.InputRootDirectory, errors.Join(err, fs.ErrNotExist))
	}
	work := path.Clean("/" + req.WorkingDirectory)
	if !filepath.IsLocal(path.Clean(cmpDot(req.WorkingDirectory))) {
		return "", "", fmt.Errorf("working_directory %q is not below the input root", req.WorkingDirectory)
	}
	if inputs, err = filepath.EvalSymlinks(filepath.Join(s.opts.BuildDir, req.InputRootDirectory)); err != nil {
		return "", "", err
	}
	return inputs, path.Join(action.WorkRoot, work), nil
}

func cmpDot(p string) string {
	if p == "" {
		return "."
	}
	return p
}

// output opens a file that the worker will read, and that must be new.
func (s *Server) output(name string) (*os.File, error) {
	if name == "" {
		return os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	}
	return s.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o666)
}

// own gives the directories of the input root, which are the action's own and
// never links into a cache, to the user that commands run as, so that it can
// write into them. Files stay as they are.
func (s *Server) own(inputs string) error {
	owner := s.opts.Capabilities.Owner
	if os.Geteuid() != 0 {
		return nil // then the worker's user must be ours, who is that user in the sandbox
	}
	return filepath.WalkDir(inputs, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		err = os.Lchown(p, owner, owner)
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EROFS) || errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EINVAL) {
			return nil // a virtual directory of the worker: its modes have to do
		}
		return err
	})
}

// stage returns the root: the root file system, with the input root as the last
// of its binds.
func (s *Server) stage(ctx context.Context, inputs string) (backends.Root, error) {
	st := &staging.Stager{
		Blobs: s.opts.Store, Layers: s.opts.Store, Notes: s.opts.Store, Capabilities: s.opts.Capabilities, Log: s.opts.Log,
	}
	root, err := st.Stage(ctx, staging.Input{Tree: action.Sum(action.SHA256, nil)}, s.opts.Rootfs)
	if err != nil {
		return root, err
	}
	root.Binds = append(slices.Clone(root.Binds), backends.Bind{Source: inputs, Target: action.WorkRoot, Over: true})
	return root, nil
}

// wall is how long the command may run: a little less than what the worker
// waits, so that what it has written until then is there when the worker looks.
func wall(ctx context.Context) time.Duration {
	end, ok := ctx.Deadline()
	if !ok {
		return 0
	}
	left := time.Until(end)
	return max(left-min(left/10, 200*time.Millisecond), time.Millisecond)
}

// environment is what the command gets: its own variables, and where it may put
// temporary files.
func environment(vars map[string]string) (env []string) {
	for name, value := range vars {
		env = append(env, name+"="+value)
	}
	for _, name := range []string{"TMPDIR", "TMP", "TEMP", "TEMPDIR"} {
		if _, set := vars[name]; !set {
			env = append(env, name+"=/tmp")
		}
	}
	slices.Sort(env)
	return env
}
