package action

import "time"

// A Timestamp is a google.protobuf.Timestamp.
type Timestamp struct {
	Seconds int64
	Nanos   int32
}

// NodeProperties are what a tree says of a node besides its name and content.
type NodeProperties struct {
	Properties []Property // sorted by name, then value
	MTime      *Timestamp
	UnixMode   *uint32
}

// A Property is a name and a value: a node property or a platform property.
type Property struct{ Name, Value string }

// A FileNode is a file of a Directory.
type FileNode struct {
	Name       string
	Digest     Digest
	Executable bool
	Properties *NodeProperties
}

// A DirectoryNode is a directory of a Directory, by the digest of its bytes.
type DirectoryNode struct {
	Name   string
	Digest Digest
}

// A SymlinkNode is a symbolic link of a Directory, its target verbatim.
type SymlinkNode struct {
	Name       string
	Target     string
	Properties *NodeProperties
}

// A Directory is one directory of a tree. Each list is sorted by name, and no
// name occurs twice in the three together.
type Directory struct {
	Files       []FileNode
	Directories []DirectoryNode
	Symlinks    []SymlinkNode
	Properties  *NodeProperties
}

// A Tree is a whole directory tree in one message: the root, and every other
// directory once, parents before children.
type Tree struct {
	Root     Directory
	Children []Directory
}

// An EnvironmentVariable of a Command.
type EnvironmentVariable struct{ Name, Value string }

// A Command says what to run. Environment and Platform are sorted by name,
// the output lists too.
type Command struct {
	Arguments             []string
	Environment           []EnvironmentVariable
	OutputFiles           []string // before REAPI 2.1
	OutputDirectories     []string // before REAPI 2.1
	Platform              []Property
	WorkingDirectory      string
	OutputPaths           []string
	OutputNodeProperties  []string
	OutputDirectoryFormat int32 // 0 tree only, 1 directory only, 2 both
}

// An Action is everything that a result depends on. Its digest is the key of
// the action cache.
type Action struct {
	Command    Digest
	InputRoot  Digest
	Timeout    time.Duration // 0: none
	DoNotCache bool
	Salt       []byte
	Platform   []Property // sorted by name, then value
}

// An OutputFile of a Result; Path is relative to the working directory.
type OutputFile struct {
	Path       string
	Digest     Digest
	Executable bool
	Contents   []byte // inlined, or nil
	Properties *NodeProperties
}

// An OutputDirectory of a Result.
type OutputDirectory struct {
	Path   string
	Tree   Digest // of a Tree; zero where only Root is given
	Sorted bool   // the Tree is topologically sorted
	Root   Digest // of a Directory; zero where only Tree is given
}

// An OutputSymlink of a Result.
type OutputSymlink struct {
	Path       string
	Target     string
	Properties *NodeProperties
}

// A Result is what an action gave: REAPI's ActionResult.
type Result struct {
	Files        []OutputFile
	Directories  []OutputDirectory
	FileSymlinks []OutputSymlink // for REAPI 2.0 clients
	DirSymlinks  []OutputSymlink // for REAPI 2.0 clients
	Symlinks     []OutputSymlink
	ExitCode     int32
	StdoutRaw    []byte // inlined, or nil; then Stdout names it
	Stdout       Digest
	StderrRaw    []byte
	Stderr       Digest
	Metadata     *Metadata
}

// Metadata says where and when an action ran: ExecutedActionMetadata.
type Metadata struct {
	Worker                                   string
	Queued, WorkerStart, WorkerCompleted     *Timestamp
	InputFetchStart, InputFetchCompleted     *Timestamp
	ExecutionStart, ExecutionCompleted       *Timestamp
	OutputUploadStart, OutputUploadCompleted *Timestamp
	VirtualExecutionDuration                 *time.Duration
	Auxiliary                                []Any
}

// An Any is a google.protobuf.Any: a message of a type that its URL names.
type Any struct {
	TypeURL string
	Value   []byte
}
