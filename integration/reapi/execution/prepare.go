package execution

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"path"
	"slices"
	"strings"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi"
	"github.com/sbx-action/sbx-action/integration/reapi/inputs"
	"github.com/sbx-action/sbx-action/staging"
)

// A job is an action that can run.
type job struct {
	digest   action.Digest // of the client's Action
	instance string
	action   *action.Action // what runs: see [Engine.prepare]
	command  *action.Command
	rootfs   staging.Rootfs
	timeout  time.Duration
	parent   string // of its trace
	size     int64  // of the messages, in bytes

	// legacy are the output lists of a client before REAPI 2.1.
	legacy struct{ files, directories []string }
}

// saltMark begins the salt of what runs in an instance with a name: then come the
// name, a NUL byte, and the client's own salt. A client's salt that begins so
// itself gets the same in front, so that nobody gets into another instance.
const saltMark = "\x00instance "

// maxMessage is the size of the largest Action or Command.
const maxMessage = 16 << 20

// defaultPath is where a command looks for programs, if its environment does
// not say.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// prepare reads an action and its command, and makes of them what runs. The
// error is a status; it says all that is wrong with what the client sent, but
// not whether the input root is complete: that shows when it is staged.
//
// What runs differs from what the client wrote so that equal things are equal:
// old output lists are output paths, the platform is the action's or else the
// command's, and has the root file system by its ID. The instance is in the
// salt, so that instances do not see each other's results.
func (e *Engine) prepare(ctx context.Context, instance string, d action.Digest) (*job, error) {
	a, c := new(repb.Action), new(repb.Command)
	if err := e.read(ctx, d, a, "action"); err != nil {
		return nil, err
	}
	f := d.Function()
	j := &job{digest: d, instance: instance}
	command, err := reapi.Digest(f, a.CommandDigest)
	if err != nil {
		return nil, invalid("action %v: command_digest: %v", d, err)
	}
	root, err := reapi.Digest(f, a.InputRootDigest)
	if err != nil {
		return nil, invalid("action %v: input_root_digest: %v", d, err)
	}
	if err := e.read(ctx, command, c, "command"); err != nil {
		return nil, err
	}
	j.size = d.Size() + command.Size()
	if j.timeout, err = e.timeout(instance, a); err != nil {
		return nil, err
	}
	platform := a.Platform
	if len(platform.GetProperties()) == 0 {
		platform = oldPlatform(c)
	}
	wants, err := e.platform(instance, platform)
	if err != nil {
		return nil, err
	}
	j.rootfs = wants.rootfs
	if j.command, err = j.commandOf(c); err != nil {
		return nil, err
	}
	j.action = &action.Action{
		Command: j.command.Digest(f), InputRoot: root, Timeout: j.timeout,
		DoNotCache: a.DoNotCache, Salt: a.Salt, Platform: wants.properties,
	}
	if instance != "" || bytes.HasPrefix(a.Salt, []byte(saltMark)) {
		j.action.Salt = append([]byte(saltMark+instance+"\x00"), a.Salt...)
	}
	if err := j.action.Check(); err != nil {
		return nil, invalid("action %v: %v", d, err)
	}
	return j, nil
}

func invalid(format string, args ...any) error {
	for i, a := range args { // a status says its code; here its text is enough
		if err, ok := a.(error); ok {
			if st, ok := status.FromError(err); ok {
				args[i] = st.Message()
			}
		}
	}
	return status.Errorf(codes.InvalidArgument, format, args...)
}

// read reads a message from the store. One that is not there is named as a
// missing blob.
func (e *Engine) read(ctx context.Context, d action.Digest, m proto.Message, what string) error {
	if d.Size() > maxMessage {
		return invalid("%s %v: larger than %d bytes", what, d, maxMessage)
	}
	data, err := e.opts.Store.Read(ctx, d)
	if errors.Is(err, action.ErrMiss) {
		return reapi.Missing([]action.Digest{d}).Err()
	}
	if err != nil {
		return reapi.Error(err)
	}
	if err := proto.Unmarshal(data, m); err != nil {
		return invalid("%s %v: %v", what, d, err)
	}
	return nil
}

func (e *Engine) timeout(instance string, a *repb.Action) (time.Duration, error) {
	limit := e.opts.MaxTimeout(instance)
	usual := min(e.opts.DefaultTimeout, limit)
	if a.Timeout == nil {
		return usual, nil
	}
	if err := a.Timeout.CheckValid(); err != nil {
		return 0, invalid("timeout: %v", err)
	}
	t := a.Timeout.AsDuration()
	switch {
	case t < 0:
		return 0, invalid("timeout %v is negative", t)
	case t > limit:
		return 0, invalid("timeout %v is longer than the %v that this server allows", t, limit)
	case t == 0:
		return usual, nil
	}
	return t, nil
}

// commandOf makes the command that runs of the client's.
func (j *job) commandOf(c *repb.Command) (*action.Command, error) {
	m := &action.Command{
		Arguments: c.Arguments, WorkingDirectory: clean(c.WorkingDirectory),
		OutputDirectoryFormat: int32(c.OutputDirectoryFormat),
	}
	if m.OutputDirectoryFormat < 0 || m.OutputDirectoryFormat > 2 {
		m.OutputDirectoryFormat = 0 // REAPI: treat one that is not known as TREE_ONLY
	}
	var err error
	if m.Environment, err = environment(c.EnvironmentVariables); err != nil {
		return nil, err
	}
	m.OutputPaths = c.OutputPaths
	if len(c.OutputPaths) == 0 {
		j.legacy.files, j.legacy.directories = oldOutputs(c)
		m.OutputPaths = slices.Concat(j.legacy.files, j.legacy.directories)
	}
	m.OutputPaths = sorted(m.OutputPaths)
	if m.OutputNodeProperties = sorted(c.OutputNodeProperties); len(m.OutputNodeProperties) > 0 {
		for _, p := range m.OutputNodeProperties {
			if !slices.Contains(NodeProperties, p) {
				return nil, invalid("output_node_properties: %q is not known here: there are %s", p, strings.Join(NodeProperties, " and "))
			}
		}
	}
	if err := m.Check(); err != nil {
		return nil, invalid("command: %v", err)
	}
	if err := inputs.CheckPaths(m); err != nil {
		return nil, invalid("command: %v", err)
	}
	return m, nil
}

func sorted(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}

// clean accepts "." and "a/" for a working directory, as clients send them.
func clean(dir string) string {
	if c := path.Clean(dir); dir != "" && !path.IsAbs(dir) {
		dir = c
	}
	if dir == "." {
		return ""
	}
	return dir
}

// environment sorts what the client sent, and adds PATH where it did not.
func environment(list []*repb.Command_EnvironmentVariable) ([]action.EnvironmentVariable, error) {
	env := make([]action.EnvironmentVariable, 0, len(list)+1)
	path := false
	for _, v := range list {
		env = append(env, action.EnvironmentVariable{Name: v.Name, Value: v.Value})
		path = path || v.Name == "PATH"
	}
	if !path {
		env = append(env, action.EnvironmentVariable{Name: "PATH", Value: defaultPath})
	}
	slices.SortStableFunc(env, func(a, b action.EnvironmentVariable) int { return cmp.Compare(a.Name, b.Name) })
	for i := 1; i < len(env); i++ {
		if env[i].Name == env[i-1].Name {
			return nil, invalid("environment variable %q is there twice", env[i].Name)
		}
	}
	return env, nil
}
