package execution

import (
	"context"
	"crypto/rand"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	logpb "github.com/bazelbuild/remote-apis/build/bazel/remote/logstream/v1"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sbx-action/sbx-action/integration/reapi"
)

// logs are the streams that can be followed while they grow: what running
// actions write, and what clients have made with CreateLogStream. Their names
// are
//
//	[INSTANCE/]logstreams/ID/stdout   of an action
//	[INSTANCE/]logstreams/ID/stderr
//	[INSTANCE/]logstreams/ID          of a client, which writes to
//	[INSTANCE/]logstreams/ID/SECRET
//
// A stream is forgotten a while after its end. It holds a small output in
// memory and a large one in a file.
type logs struct {
	logpb.UnimplementedLogStreamServiceServer
	engine *Engine

	mu     sync.Mutex
	all    map[string]*logStream // guarded by mu: by the name to read
	writes map[string]*logStream // guarded by mu: by the name to write
}

const (
	logKeep   = time.Minute      // after its end
	logIdle   = 10 * time.Minute // without a write of its client
	logMemory = 64 << 10         // bytes in memory
	logMax    = 256 << 20        // bytes at all
	logCount  = 10_000           // streams that clients have made
	logPiece  = 64 << 10
)

const logMark = "logstreams/"

func streamName(instance, id string) string {
	if instance == "" {
		return logMark + id
	}
	return instance + "/" + logMark + id
}

// taskLogs are the two streams of a task.
type taskLogs struct {
	logs     *logs
	out, err *logStream
}

func (l *logs) of(instance, id string) *taskLogs {
	return &taskLogs{
		logs: l,
		out:  newLogStream(streamName(instance, id+"/stdout")),
		err:  newLogStream(streamName(instance, id+"/stderr")),
	}
}

// begin lets clients find the streams of t.
func (t *taskLogs) begin() { t.logs.open(t.out, t.err) }

func (l *logs) open(list ...*logStream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		l.all, l.writes = map[string]*logStream{}, map[string]*logStream{}
	}
	for _, s := range list {
		l.all[s.name] = s
	}
}

func (t *taskLogs) names() (stdout, stderr string) { return t.out.name, t.err.name }
func (t *taskLogs) stdout() io.Writer              { return t.out }
func (t *taskLogs) stderr() io.Writer              { return t.err }

// end says that nothing more comes.
func (t *taskLogs) end() {
	t.out.end()
	t.err.end()
	t.logs.forget(t.out, t.err)
}

// forget drops streams a while after their end.
func (l *logs) forget(list ...*logStream) {
	time.AfterFunc(logKeep, func() { l.drop(list...) })
}

func (l *logs) drop(list ...*logStream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range list {
		delete(l.all, s.name)
		delete(l.writes, s.write)
		s.close()
	}
}

func (l *logs) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.all {
		s.end()
		s.close()
	}
	l.all, l.writes = nil, nil
}

// A logStream is written by one and followed by many.
type logStream struct {
	name, write string

	mu      sync.Mutex
	memory  []byte        // guarded by mu: everything, while file is nil
	file    *os.File      // guarded by mu: else
	size    int64         // guarded by mu
	full    bool          // guarded by mu: nothing more is kept
	ended   bool          // guarded by mu
	closed  bool          // guarded by mu: no reader is let in any more
	readers int           // guarded by mu: the file stays open for them
	changed chan struct{} // guarded by mu: closed at the next change
	wrote   time.Time     // guarded by mu
}

func newLogStream(name string) *logStream {
	return &logStream{name: name, changed: make(chan struct{}), wrote: time.Now()}
}

func (s *logStream) broadcast() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Write appends. It never fails: what cannot be kept is left out of the stream,
// not of the result.
func (s *logStream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(p)
	if s.ended || s.full {
		return n, nil
	}
	p = p[:min(int64(n), logMax-s.size)]
	// No hole: what comes after what could not be kept is not kept, either.
	if err := s.append(p); err != nil || len(p) < n {
		s.full = true
	}
	s.wrote = time.Now()
	s.broadcast()
	return n, nil
}

func (s *logStream) append(p []byte) error {
	if s.file == nil && len(s.memory)+len(p) > logMemory {
		f, err := os.CreateTemp("", "sbx-log-")
		if err != nil {
			return err
		}
		_ = os.Remove(f.Name())
		if _, err := f.Write(s.memory); err != nil {
			_ = f.Close()
			return err
		}
		s.file, s.memory = f, nil
	}
	if s.file == nil {
		s.memory = append(s.memory, p...)
	} else if _, err := s.file.WriteAt(p, s.size); err != nil {
		return err
	}
	s.size += int64(len(p))
	return nil
}

// state is how much there is, and whether that is all there will be.
func (s *logStream) state() (size int64, ended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size, s.ended
}

func (s *logStream) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.ended = true
		s.broadcast()
	}
}

func (s *logStream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.release()
}

// release closes the file when nobody needs it. Needs mu.
func (s *logStream) release() {
	if s.closed && s.readers == 0 && s.file != nil {
		_ = s.file.Close()
		s.file = nil
	}
}

func (s *logStream) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.readers++
	return true
}

func (s *logStream) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readers--
	s.release()
}

// at reads what there is at off into p; ended says that this is all there will
// be, and changed tells that there is more.
func (s *logStream) at(p []byte, off int64) (n int, ended bool, changed <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n = int(min(int64(len(p)), max(s.size-off, 0)))
	if n > 0 && s.file == nil {
		copy(p[:n], s.memory[off:])
	} else if n > 0 {
		n, err = s.file.ReadAt(p[:n], off)
	}
	return n, s.ended && off+int64(n) >= s.size, s.changed, err
}

// Is implements [storage.Streams].
func (l *logs) Is(name string) bool {
	return strings.HasPrefix(name, logMark) || strings.Contains(name, "/"+logMark)
}

// Read implements [storage.Streams]: it follows the stream until it ends.
func (l *logs) Read(req *bytestream.ReadRequest, stream bytestream.ByteStream_ReadServer) error {
	l.mu.Lock()
	s := l.all[req.ResourceName]
	l.mu.Unlock()
	if s == nil || !s.enter() {
		return status.Errorf(codes.NotFound, "log stream %q is not here: it ended, or never was", req.ResourceName)
	}
	defer s.leave()
	if req.ReadOffset < 0 || req.ReadLimit < 0 {
		return status.Error(codes.InvalidArgument, "read_offset and read_limit must not be negative")
	}
	off, left := req.ReadOffset, req.ReadLimit
	block := make([]byte, logPiece)
	for {
		p := block
		if req.ReadLimit > 0 {
			p = p[:min(int64(len(p)), left)]
		}
		n, ended, changed, err := s.at(p, off)
		if err != nil {
			return reapi.Error(err)
		}
		if n > 0 {
			if err := stream.Send(&bytestream.ReadResponse{Data: p[:n]}); err != nil {
				return err
			}
			off, left = off+int64(n), left-int64(n)
		}
		if ended || req.ReadLimit > 0 && left == 0 {
			return nil
		}
		if n > 0 {
			continue
		}
		select {
		case <-changed:
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		case <-l.engine.ctx.Done():
			return reapi.Busy(codes.Unavailable, time.Second, "%v", errStopped).Err()
		}
	}
}

// CreateLogStream implements the RPC.
func (l *logs) CreateLogStream(_ context.Context, req *logpb.CreateLogStreamRequest) (*logpb.LogStream, error) {
	if err := reapi.CheckInstance(req.Parent); err != nil {
		return nil, err
	}
	s := newLogStream(streamName(req.Parent, rand.Text()))
	s.write = s.name + "/" + rand.Text()
	l.open()
	l.mu.Lock()
	if len(l.writes) >= logCount {
		l.mu.Unlock()
		return nil, reapi.Busy(codes.ResourceExhausted, logIdle, "%d log streams are open: end some", logCount).Err()
	}
	l.all[s.name], l.writes[s.write] = s, s
	l.mu.Unlock()
	l.expire(s, logIdle)
	return &logpb.LogStream{Name: s.name, WriteResourceName: s.write}, nil
}

// expire ends s when its client has not written for a while.
func (l *logs) expire(s *logStream, after time.Duration) {
	time.AfterFunc(after, func() {
		s.mu.Lock()
		idle := time.Since(s.wrote)
		ended := s.ended
		s.mu.Unlock()
		switch {
		case ended:
		case idle < logIdle:
			l.expire(s, logIdle-idle)
		default:
			s.end()
			l.forget(s)
		}
	})
}

// Write implements [storage.Streams].
func (l *logs) Write(req *bytestream.WriteRequest, stream bytestream.ByteStream_WriteServer) error {
	l.mu.Lock()
	s := l.writes[req.ResourceName]
	l.mu.Unlock()
	if s == nil {
		return status.Errorf(codes.NotFound, "log stream %q cannot be written: use the write_resource_name of CreateLogStream", req.ResourceName)
	}
	for {
		size, ended := s.state()
		if ended || req.WriteOffset != size {
			return status.Errorf(codes.OutOfRange, "write_offset %d: the stream has %d bytes, and its end is %v", req.WriteOffset, size, ended)
		}
		if _, err := s.Write(req.Data); err != nil {
			return reapi.Error(err)
		}
		if have, _ := s.state(); have != size+int64(len(req.Data)) {
			return status.Errorf(codes.ResourceExhausted, "the stream has %d bytes, and no more can be kept", have)
		}
		if req.FinishWrite {
			s.end()
			l.forget(s)
			return stream.SendAndClose(&bytestream.WriteResponse{CommittedSize: size + int64(len(req.Data))})
		}
		next, err := stream.Recv()
		if err == io.EOF {
			return stream.SendAndClose(&bytestream.WriteResponse{CommittedSize: size + int64(len(req.Data))})
		}
		if err != nil {
			return err
		}
		if next.ResourceName != "" && next.ResourceName != req.ResourceName {
			return status.Error(codes.InvalidArgument, "resource_name changed within a write")
		}
		next.ResourceName = req.ResourceName
		req = next
	}
}

// Committed implements [storage.Streams].
func (l *logs) Committed(name string) (size int64, complete bool, err error) {
	l.mu.Lock()
	s := l.writes[name]
	l.mu.Unlock()
	if s == nil {
		return 0, false, status.Errorf(codes.NotFound, "log stream %q is not here", name)
	}
	size, complete = s.state()
	return size, complete, nil
}
