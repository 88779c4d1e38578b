package action

// Marshal returns the canonical bytes of m, the ones that its digest is made
// of. It writes what it is given: [Directory.Check] says whether they are what
// [ParseDirectory] accepts.
func (m *Directory) Marshal() []byte { return m.AppendMarshal(make([]byte, 0, m.sizeHint())) }

// Marshal returns the canonical bytes of m. They are also the encoding that
// REAPI asks of a topologically sorted tree.
func (m *Tree) Marshal() []byte {
	n := m.Root.sizeHint() + 8
	for i := range m.Children {
		n += m.Children[i].sizeHint() + 8
	}
	b, start := begin(make([]byte, 0, n), 1)
	b = end(m.Root.AppendMarshal(b), start)
	for i := range m.Children {
		b, start = begin(b, 2)
		b = end(m.Children[i].AppendMarshal(b), start)
	}
	return b
}

// Marshal returns the canonical bytes of m.
func (m *Command) Marshal() []byte {
	b := make([]byte, 0, 1024)
	b = appendElements(b, 1, m.Arguments)
	for _, v := range m.Environment {
		b = appendPair(b, 2, v.Name, v.Value)
	}
	b = appendElements(b, 3, m.OutputFiles)
	b = appendElements(b, 4, m.OutputDirectories)
	b = appendPlatform(b, 5, m.Platform)
	b = appendText(b, 6, m.WorkingDirectory)
	b = appendElements(b, 7, m.OutputPaths)
	b = appendElements(b, 8, m.OutputNodeProperties)
	return appendInt(b, 9, int64(m.OutputDirectoryFormat))
}

// Marshal returns the canonical bytes of m: what [Action.Digest], the key of
// the action cache, is the digest of. [Explain] says what they depend on.
func (m *Action) Marshal() []byte {
	b := make([]byte, 0, 512)
	b = appendDigest(b, 1, m.Command)
	b = appendDigest(b, 2, m.InputRoot)
	if m.Timeout != 0 {
		b = appendDuration(b, 6, m.Timeout)
	}
	b = appendBool(b, 7, m.DoNotCache)
	b = appendText(b, 9, m.Salt)
	return appendPlatform(b, 10, m.Platform)
}

// Marshal returns the canonical bytes of m.
func (m *Result) Marshal() []byte {
	b := make([]byte, 0, 1024+len(m.StdoutRaw)+len(m.StderrRaw))
	for i := range m.Files {
		b = m.Files[i].append(b, 2)
	}
	for i := range m.Directories {
		b = m.Directories[i].append(b, 3)
	}
	b = appendInt(b, 4, int64(m.ExitCode))
	b = appendText(b, 5, m.StdoutRaw)
	b = appendDigest(b, 6, m.Stdout)
	b = appendText(b, 7, m.StderrRaw)
	b = appendDigest(b, 8, m.Stderr)
	if m.Metadata != nil {
		b = m.Metadata.append(b, 9)
	}
	b = appendLinks(b, 10, m.FileSymlinks)
	b = appendLinks(b, 11, m.DirSymlinks)
	return appendLinks(b, 12, m.Symlinks)
}

// Digest is the digest of m's canonical bytes.
func (m *Directory) Digest(f Function) Digest { return Sum(f, m.Marshal()) }

// Digest is the digest of m's canonical bytes.
func (m *Command) Digest(f Function) Digest { return Sum(f, m.Marshal()) }

// Digest is the key of the action cache for m.
func (m *Action) Digest(f Function) Digest { return Sum(f, m.Marshal()) }

// AppendMarshal appends the canonical bytes of m to b.
func (m *Directory) AppendMarshal(b []byte) []byte {
	var start int
	for i := range m.Files {
		n := &m.Files[i]
		b, start = begin(b, 1)
		b = appendText(b, 1, n.Name)
		b = appendDigest(b, 2, n.Digest)
		b = appendBool(b, 4, n.Executable)
		b = n.Properties.append(b, 6)
		b = end(b, start)
	}
	for i := range m.Directories {
		n := &m.Directories[i]
		b, start = begin(b, 2)
		b = appendText(b, 1, n.Name)
		b = appendDigest(b, 2, n.Digest)
		b = end(b, start)
	}
	for i := range m.Symlinks {
		n := &m.Symlinks[i]
		b, start = begin(b, 3)
		b = appendText(b, 1, n.Name)
		b = appendText(b, 2, n.Target)
		b = n.Properties.append(b, 4)
		b = end(b, start)
	}
	return m.Properties.append(b, 5)
}

// sizeHint is how many bytes m takes, or a little more; less where there are
// node properties.
func (m *Directory) sizeHint() int {
	const digest = 2 + 2 + 64 + 11
	const node = 2 + 3 + 2 + digest
	n := 0
	for i := range m.Files {
		n += node + len(m.Files[i].Name)
	}
	for i := range m.Directories {
		n += node + len(m.Directories[i].Name)
	}
	for i := range m.Symlinks {
		n += node + len(m.Symlinks[i].Name) + len(m.Symlinks[i].Target)
	}
	return n
}

// append appends p, unless it is nil.
func (p *NodeProperties) append(b []byte, field int) []byte {
	if p == nil {
		return b
	}
	b, start := begin(b, field)
	for _, q := range p.Properties {
		b = appendPair(b, 1, q.Name, q.Value)
	}
	b = appendTime(b, 2, p.MTime)
	if p.UnixMode != nil {
		var mode int
		b, mode = begin(b, 3)
		b = end(appendVarint(b, 1, uint64(*p.UnixMode)), mode)
	}
	return end(b, start)
}

// appendPair appends a message of two strings, as several of ours are.
func appendPair(b []byte, field int, first, second string) []byte {
	b, start := begin(b, field)
	b = appendText(b, 1, first)
	b = appendText(b, 2, second)
	return end(b, start)
}

// appendPlatform appends a Platform, unless it has no property.
func appendPlatform(b []byte, field int, list []Property) []byte {
	if len(list) == 0 {
		return b
	}
	b, start := begin(b, field)
	for _, p := range list {
		b = appendPair(b, 1, p.Name, p.Value)
	}
	return end(b, start)
}

func (m *OutputFile) append(b []byte, field int) []byte {
	b, start := begin(b, field)
	b = appendText(b, 1, m.Path)
	b = appendDigest(b, 2, m.Digest)
	b = appendBool(b, 4, m.Executable)
	b = appendText(b, 5, m.Contents)
	b = m.Properties.append(b, 7)
	return end(b, start)
}

func (m *OutputDirectory) append(b []byte, field int) []byte {
	b, start := begin(b, field)
	b = appendText(b, 1, m.Path)
	b = appendDigest(b, 3, m.Tree)
	b = appendBool(b, 4, m.Sorted)
	b = appendDigest(b, 5, m.Root)
	return end(b, start)
}

func appendLinks(b []byte, field int, list []OutputSymlink) []byte {
	var start int
	for i := range list {
		b, start = begin(b, field)
		b = appendText(b, 1, list[i].Path)
		b = appendText(b, 2, list[i].Target)
		b = list[i].Properties.append(b, 4)
		b = end(b, start)
	}
	return b
}

func (m *Metadata) append(b []byte, field int) []byte {
	b, start := begin(b, field)
	b = appendText(b, 1, m.Worker)
	for i, t := range m.times() {
		b = appendTime(b, 2+i, *t)
	}
	for _, a := range m.Auxiliary {
		var any int
		b, any = begin(b, 11)
		b = appendText(b, 1, a.TypeURL)
		b = appendText(b, 2, a.Value)
		b = end(b, any)
	}
	if m.VirtualExecutionDuration != nil {
		b = appendDuration(b, 12, *m.VirtualExecutionDuration)
	}
	return end(b, start)
}

// times are the timestamps of m in the order of their fields, from 2 on.
func (m *Metadata) times() [9]**Timestamp {
	return [9]**Timestamp{
		&m.Queued, &m.WorkerStart, &m.WorkerCompleted,
		&m.InputFetchStart, &m.InputFetchCompleted,
		&m.ExecutionStart, &m.ExecutionCompleted,
		&m.OutputUploadStart, &m.OutputUploadCompleted,
	}
}
