//lint:file-ignore SA1019 the fields for old clients are part of the encoding

package action

import (
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// The generated code is what we hold ours against. This file says which field
// of ours is which of theirs, once more and independently.

// deterministic is the encoding that REAPI asks for.
func deterministic(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func each[A, B any](list []A, f func(A) B) (out []B) {
	for _, v := range list {
		out = append(out, f(v))
	}
	return out
}

func digestProto(d Digest) *repb.Digest {
	if d.IsZero() {
		return nil
	}
	return &repb.Digest{Hash: d.Hash(), SizeBytes: d.Size()}
}

func timeProto(t *Timestamp) *timestamppb.Timestamp {
	if t == nil {
		return nil
	}
	return &timestamppb.Timestamp{Seconds: t.Seconds, Nanos: t.Nanos}
}

func propertiesProto(p *NodeProperties) *repb.NodeProperties {
	if p == nil {
		return nil
	}
	out := &repb.NodeProperties{
		Properties: each(p.Properties, func(q Property) *repb.NodeProperty {
			return &repb.NodeProperty{Name: q.Name, Value: q.Value}
		}),
		Mtime: timeProto(p.MTime),
	}
	if p.UnixMode != nil {
		out.UnixMode = wrapperspb.UInt32(*p.UnixMode)
	}
	return out
}

func platformProto(list []Property) *repb.Platform {
	if len(list) == 0 {
		return nil
	}
	return &repb.Platform{Properties: each(list, func(p Property) *repb.Platform_Property {
		return &repb.Platform_Property{Name: p.Name, Value: p.Value}
	})}
}

func directoryProto(m Directory) *repb.Directory {
	return &repb.Directory{
		Files: each(m.Files, func(n FileNode) *repb.FileNode {
			return &repb.FileNode{
				Name: n.Name, Digest: digestProto(n.Digest), IsExecutable: n.Executable,
				NodeProperties: propertiesProto(n.Properties),
			}
		}),
		Directories: each(m.Directories, func(n DirectoryNode) *repb.DirectoryNode {
			return &repb.DirectoryNode{Name: n.Name, Digest: digestProto(n.Digest)}
		}),
		Symlinks: each(m.Symlinks, func(n SymlinkNode) *repb.SymlinkNode {
			return &repb.SymlinkNode{
				Name: n.Name, Target: n.Target,
				NodeProperties: propertiesProto(n.Properties),
			}
		}),
		NodeProperties: propertiesProto(m.Properties),
	}
}

func treeProto(m Tree) *repb.Tree {
	return &repb.Tree{Root: directoryProto(m.Root), Children: each(m.Children, directoryProto)}
}

func commandProto(m Command) *repb.Command {
	return &repb.Command{
		Arguments: m.Arguments,
		EnvironmentVariables: each(m.Environment, func(v EnvironmentVariable) *repb.Command_EnvironmentVariable {
			return &repb.Command_EnvironmentVariable{Name: v.Name, Value: v.Value}
		}),
		OutputFiles:           m.OutputFiles,
		OutputDirectories:     m.OutputDirectories,
		Platform:              platformProto(m.Platform),
		WorkingDirectory:      m.WorkingDirectory,
		OutputPaths:           m.OutputPaths,
		OutputNodeProperties:  m.OutputNodeProperties,
		OutputDirectoryFormat: repb.Command_OutputDirectoryFormat(m.OutputDirectoryFormat),
	}
}

func actionProto(m Action) *repb.Action {
	out := &repb.Action{
		CommandDigest:   digestProto(m.Command),
		InputRootDigest: digestProto(m.InputRoot),
		DoNotCache:      m.DoNotCache,
		Salt:            m.Salt,
		Platform:        platformProto(m.Platform),
	}
	if m.Timeout != 0 {
		out.Timeout = durationpb.New(m.Timeout)
	}
	return out
}

func linkProto(l OutputSymlink) *repb.OutputSymlink {
	return &repb.OutputSymlink{Path: l.Path, Target: l.Target, NodeProperties: propertiesProto(l.Properties)}
}

func resultProto(m Result) *repb.ActionResult {
	return &repb.ActionResult{
		OutputFiles: each(m.Files, func(f OutputFile) *repb.OutputFile {
			return &repb.OutputFile{
				Path: f.Path, Digest: digestProto(f.Digest), IsExecutable: f.Executable,
				Contents: f.Contents, NodeProperties: propertiesProto(f.Properties),
			}
		}),
		OutputDirectories: each(m.Directories, func(d OutputDirectory) *repb.OutputDirectory {
			return &repb.OutputDirectory{
				Path: d.Path, TreeDigest: digestProto(d.Tree),
				IsTopologicallySorted: d.Sorted, RootDirectoryDigest: digestProto(d.Root),
			}
		}),
		OutputFileSymlinks:      each(m.FileSymlinks, linkProto),
		OutputDirectorySymlinks: each(m.DirSymlinks, linkProto),
		OutputSymlinks:          each(m.Symlinks, linkProto),
		ExitCode:                m.ExitCode,
		StdoutRaw:               m.StdoutRaw,
		StdoutDigest:            digestProto(m.Stdout),
		StderrRaw:               m.StderrRaw,
		StderrDigest:            digestProto(m.Stderr),
		ExecutionMetadata:       metadataProto(m.Metadata),
	}
}

func metadataProto(m *Metadata) *repb.ExecutedActionMetadata {
	if m == nil {
		return nil
	}
	return &repb.ExecutedActionMetadata{
		Worker:                         m.Worker,
		QueuedTimestamp:                timeProto(m.Queued),
		WorkerStartTimestamp:           timeProto(m.WorkerStart),
		WorkerCompletedTimestamp:       timeProto(m.WorkerCompleted),
		InputFetchStartTimestamp:       timeProto(m.InputFetchStart),
		InputFetchCompletedTimestamp:   timeProto(m.InputFetchCompleted),
		ExecutionStartTimestamp:        timeProto(m.ExecutionStart),
		ExecutionCompletedTimestamp:    timeProto(m.ExecutionCompleted),
		OutputUploadStartTimestamp:     timeProto(m.OutputUploadStart),
		OutputUploadCompletedTimestamp: timeProto(m.OutputUploadCompleted),
		VirtualExecutionDuration:       durationProto(m.VirtualExecutionDuration),
		AuxiliaryMetadata: each(m.Auxiliary, func(a Any) *anypb.Any {
			return &anypb.Any{TypeUrl: a.TypeURL, Value: a.Value}
		}),
	}
}

func durationProto(d *time.Duration) *durationpb.Duration {
	if d == nil {
		return nil
	}
	return durationpb.New(*d)
}
