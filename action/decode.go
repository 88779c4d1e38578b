package action

import "fmt"

// ParseDirectory parses what [Directory.Marshal] writes and nothing else, so
// that equal directories have equal bytes and hence one digest. f is the
// function of the digests in it: the bytes do not say. The error names the
// field and the reason.
func ParseDirectory(data []byte, f Function) (*Directory, error) {
	return parse("directory", data, f, (*Directory).read, (*Directory).Check)
}

// ParseTree parses what [Tree.Marshal] writes and nothing else. Whether the
// tree is complete, [Tree.Sorted] says.
func ParseTree(data []byte, f Function) (*Tree, error) {
	return parse("tree", data, f, (*Tree).read, (*Tree).Check)
}

// ParseCommand parses what [Command.Marshal] writes and nothing else.
func ParseCommand(data []byte, f Function) (*Command, error) {
	return parse("command", data, f, (*Command).read, (*Command).Check)
}

// ParseAction parses what [Action.Marshal] writes and nothing else.
func ParseAction(data []byte, f Function) (*Action, error) {
	return parse("action", data, f, (*Action).read, (*Action).Check)
}

// ParseResult parses what [Result.Marshal] writes and nothing else. Its paths
// may begin with "..": only the Command knows how far up they may go.
func ParseResult(data []byte, f Function) (*Result, error) {
	return parse("result", data, f, (*Result).read, (*Result).Check)
}

func parse[T any](what string, data []byte, f Function, read func(*T, *reader), check func(*T) error) (*T, error) {
	if !f.Known() {
		return nil, fmt.Errorf("parse %s: unsupported digest function %v", what, f)
	}
	m, r := new(T), &reader{b: data, function: f}
	read(m, r)
	if r.err == nil {
		r.err = check(m)
	}
	if r.err != nil {
		return nil, fmt.Errorf("malformed %s: %w", what, r.err)
	}
	return m, nil
}

func (m *Directory) read(r *reader) {
	for r.next() {
		switch r.field {
		case 1:
			repeated(r, "files", &m.Files, (*FileNode).read)
		case 2:
			repeated(r, "directories", &m.Directories, (*DirectoryNode).read)
		case 3:
			repeated(r, "symlinks", &m.Symlinks, (*SymlinkNode).read)
		case 5:
			m.Properties = r.properties()
		default:
			r.unknown()
		}
	}
}

func (m *FileNode) read(r *reader) {
	for r.next() {
		switch r.field {
		case 1:
			m.Name = r.text("name")
		case 2:
			m.Digest = r.digest("digest")
		case 4:
			m.Executable = r.bool("is_executable")
		case 6:
			m.Properties = r.properties()
		default:
			r.unknown()
		}
	}
}

func (m *DirectoryNode) read(r *reader) {
	for r.next() {
		switch r.field {
		case 1:
			m.Name = r.text("name")
		case 2:
			m.Digest = r.digest("digest")
		default:
			r.unknown()
		}
	}
}

func (m *SymlinkNode) read(r *reader) {
	for r.next() {
		switch r.field {
		case 1:
			m.Name = r.text("name")
		case 2:
			m.Target = r.text("target")
		case 4:
			m.Properties = r.properties()
		default:
			r.unknown()
		}
	}
}

// properties reads a singular NodeProperties.
func (r *reader) properties() *NodeProperties {
	p := new(NodeProperties)
	r.message("node_properties", func(r *reader) {
		for r.next() {
			switch r.field {
			case 1:
				repeated(r, "properties", &p.Properties, (*Property).read)
			case 2:
				p.MTime = r.time("mtime")
			case 3:
				p.UnixMode = r.wrapped("unix_mode")
			default:
				r.unknown()
			}
		}
	})
	return p
}

// wrapped reads a google.protobuf.UInt32Value.
func (r *reader) wrapped(field string) *uint32 {
	v := new(uint32)
	r.message(field, func(r *reader) {
		for r.next() {
			switch r.field {
			case 1:
				*v = r.uint32("value")
			default:
				r.unknown()
			}
		}
	})
	return v
}

func (m *Property) read(r *reader) { m.Name, m.Value = r.pair() }

func (m *EnvironmentVariable) read(r *reader) { m.Name, m.Value = r.pair() }

// pair reads the fields of a message that is a name and a value.
func (r *reader) pair() (name, value string) {
	for r.next() {
		switch r.field {
		case 1:
			name = r.text("name")
		case 2:
			value = r.text("value")
		default:
			r.unknown()
		}
	}
	return name, value
}

// platform reads a singular Platform, which is not empty: no property and no
// Platform mean the same, and only one of them can be canonical.
func (r *reader) platform() (list []Property) {
	r.message("platform", func(r *reader) {
		for r.next() {
			switch r.field {
			case 1:
				repeated(r, "properties", &list, (*Property).read)
			default:
				r.unknown()
			}
		}
		if len(list) == 0 {
			r.failf("no property: leave it out")
		}
	})
	return list
}

func (m *Tree) read(r *reader) {
	root := false
	for r.next() {
		switch r.field {
		case 1:
			root = true
			r.message("root", m.Root.read)
		case 2:
			repeated(r, "children", &m.Children, (*Directory).read)
		default:
			r.unknown()
		}
	}
	if !root {
		r.failf("no root")
	}
}

func (m *Command) read(r *reader) {
	for r.next() {
		switch r.field {
		case 1:
			r.element("arguments", &m.Arguments)
		case 2:
			repeated(r, "environment_variables", &m.Environment, (*EnvironmentVariable).read)
		case 3:
			r.element("output_files", &m.OutputFiles)
		case 4:
			r.element("output_directories", &m.OutputDirectories)
		case 5:
			m.Platform = r.platform()
		case 6:
			m.WorkingDirectory = r.text("working_directory")
		case 7:
			r.element("output_paths", &m.OutputPaths)
		case 8:
			r.element("output_node_properties", &m.OutputNodeProperties)
		case 9:
			m.OutputDirectoryFormat = r.int32("output_directory_format")
		default:
			r.unknown()
		}
	}
}

func (m *Action) read(r *reader) {
	for r.next() {
		switch r.field {
		case 1:
			m.Command = r.digest("command_digest")
		case 2:
			m.InputRoot = r.digest("input_root_digest")
		case 6:
			m.Timeout = r.duration("timeout")
			if m.Timeout == 0 {
				r.failf("timeout: 0: leave it out")
			}
		case 7:
			m.DoNotCache = r.bool("do_not_cache")
		case 9:
			m.Salt = r.bytes("salt")
		case 10:
			m.Platform = r.platform()
		default:
			r.unknown()
		}
	}
}

func (m *Result) read(r *reader) {
	for r.next() {
		switch r.field {
		case 2:
			repeated(r, "output_files", &m.Files, (*OutputFile).read)
		case 3:
			repeated(r, "output_directories", &m.Directories, (*OutputDirectory).read)
		case 4:
			m.ExitCode = r.int32("exit_code")
		case 5:
			m.StdoutRaw = r.bytes("stdout_raw")
		case 6:
			m.Stdout = r.digest("stdout_digest")
		case 7:
			m.StderrRaw = r.bytes("stderr_raw")
		case 8:
			m.Stderr = r.digest("stderr_digest")
		case 9:
			m.Metadata = new(Metadata)
			r.message("execution_metadata", m.Metadata.read)
		case 10:
			repeated(r, "output_file_symlinks", &m.FileSymlinks, (*OutputSymlink).read)
		case 11:
			repeated(r, "output_directory_symlinks", &m.DirSymlinks, (*OutputSymlink).read)
		case 12:
			repeated(r, "output_symlinks", &m.Symlinks, (*OutputSymlink).read)
		default:
			r.unknown()
		}
	}
}

func (m *OutputFile) read(r *reader) {
	for r.next() {
		switch r.field {
		case 1:
			m.Path = r.text("path")
		case 2:
			m.Digest = r.digest("digest")
		case 4:
			m.Executable = r.bool("is_executable")
		case 5:
			m.Contents = r.bytes("contents")
		case 7:
			m.Properties = r.properties()
		default:
			r.unknown()
		}
	}
}

func (m *OutputDirectory) read(r *reader) {
	for r.next() {
		switch r.field {
		case 1:
			m.Path = r.text("path")
		case 3:
			m.Tree = r.digest("tree_digest")
		case 4:
			m.Sorted = r.bool("is_topologically_sorted")
		case 5:
			m.Root = r.digest("root_directory_digest")
		default:
			r.unknown()
		}
	}
}

func (m *OutputSymlink) read(r *reader) {
	for r.next() {
		switch r.field {
		case 1:
			m.Path = r.text("path")
		case 2:
			m.Target = r.text("target")
		case 4:
			m.Properties = r.properties()
		default:
			r.unknown()
		}
	}
}

// timeFields name what [Metadata.times] returns.
var timeFields = [...]string{
	"queued_timestamp", "worker_start_timestamp", "worker_completed_timestamp",
	"input_fetch_start_timestamp", "input_fetch_completed_timestamp",
	"execution_start_timestamp", "execution_completed_timestamp",
	"output_upload_start_timestamp", "output_upload_completed_timestamp",
}

func (m *Metadata) read(r *reader) {
	times := m.times()
	for r.next() {
		switch {
		case r.field == 1:
			m.Worker = r.text("worker")
		case r.field >= 2 && r.field < 2+len(times):
			*times[r.field-2] = r.time(timeFields[r.field-2])
		case r.field == 11:
			repeated(r, "auxiliary_metadata", &m.Auxiliary, (*Any).read)
		case r.field == 12:
			d := r.duration("virtual_execution_duration")
			m.VirtualExecutionDuration = &d
		default:
			r.unknown()
		}
	}
}

func (m *Any) read(r *reader) {
	for r.next() {
		switch r.field {
		case 1:
			m.TypeURL = r.text("type_url")
		case 2:
			m.Value = r.bytes("value")
		default:
			r.unknown()
		}
	}
}
