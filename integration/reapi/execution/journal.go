package execution

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sbx-action/sbx-action/integration/reapi"
	"github.com/sbx-action/sbx-action/internal/durable"
)

// A journal is a file of what became of operations, for the next server. It is
// appended to, a record in one write, and never synced: a killed server loses
// nothing, a power cut the last second.
//
// # Format, version 2
//
// The line "sbx-action operations 2", then records:
//
//	1 byte   'b' an operation began, 'e' it ended, 'd' it is forgotten
//	4 bytes  length of the name, little endian
//	4 bytes  length of the message
//	8 bytes  when, in nanoseconds since 1970
//	         the name; the message: an ExecuteRequest, an ExecuteResponse, nothing
//	4 bytes  CRC-32 (IEEE) of all before it
//
// What follows a damaged record is not read. Opening the file writes it anew,
// with only what is still of use.
type journal struct {
	path  string
	file  *os.File
	size  int64
	limit int64 // from which it is written anew
	old   []*Operation
}

const (
	journalHead   = "sbx-action operations 2\n"
	journalRecord = 1 + 4 + 4 + 8 + 4
	journalMax    = 64 << 20 // of one message
)

// openJournal reads the journal. Whoever opens it has seen to it that no other
// server has it: two would run the same operations.
func openJournal(path string) (*journal, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	j := &journal{path: path}
	f, err := os.Open(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	good := int64(0)
	if err == nil {
		j.old, good = readJournal(bufio.NewReader(f))
		_ = f.Close()
	}
	err = j.rewrite(j.old)
	if durable.IsFull(err) && good > 0 {
		err = j.goOn(good)
	}
	return j, err
}

// goOn takes the file as it is, of which so many bytes are good: there is no space for
// another.
func (j *journal) goOn(good int64) error {
	f, err := os.OpenFile(j.path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	if err := f.Truncate(good); err != nil {
		return errors.Join(err, f.Close())
	}
	j.file, j.size, j.limit = f, good, 2*good+16<<20
	return nil
}

// readJournal returns the operations that r tells of, as far as it is good, and how
// many bytes that is.
func readJournal(r io.Reader) (left []*Operation, good int64) {
	head := make([]byte, len(journalHead))
	if _, err := io.ReadFull(r, head); err != nil || string(head) != journalHead {
		return nil, 0
	}
	good = int64(len(head))
	byName := map[string]*Operation{}
	var list []*Operation
	for {
		kind, at, name, data, err := readRecord(r)
		if err != nil {
			break
		}
		good += int64(journalRecord + len(name) + len(data))
		op := byName[name]
		switch {
		case kind == 'b' && op == nil:
			req := new(repb.ExecuteRequest)
			if proto.Unmarshal(data, req) != nil {
				continue
			}
			d, err := reapi.InferDigest(req.DigestFunction, req.ActionDigest)
			if err != nil {
				continue
			}
			op = &Operation{Name: name, Instance: req.InstanceName, Request: req, digest: d, begun: at, noted: true}
			byName[name] = op
			list = append(list, op)
		case kind == 'e' && op != nil:
			res := new(repb.ExecuteResponse)
			if proto.Unmarshal(data, res) == nil {
				op.response, op.ended = res, at
			}
		case kind == 'd':
			delete(byName, name)
		}
	}
	for _, op := range list {
		if byName[op.Name] == op && (op.response == nil || time.Since(op.ended) < keepDone) {
			left = append(left, op)
		}
	}
	return left, good
}

func readRecord(r io.Reader) (kind byte, at time.Time, name string, data []byte, err error) {
	var head [17]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, at, "", nil, err
	}
	n, m := binary.LittleEndian.Uint32(head[1:]), binary.LittleEndian.Uint32(head[5:])
	if n > 4096 || m > journalMax {
		return 0, at, "", nil, errors.New("damaged")
	}
	body := make([]byte, n+m+4)
	if _, err := io.ReadFull(r, body); err != nil {
		return 0, at, "", nil, err
	}
	sum := crc32.Update(crc32.ChecksumIEEE(head[:]), crc32.IEEETable, body[:n+m])
	if sum != binary.LittleEndian.Uint32(body[n+m:]) {
		return 0, at, "", nil, errors.New("damaged")
	}
	return head[0], time.Unix(0, int64(binary.LittleEndian.Uint64(head[9:]))), string(body[:n]), body[n : n+m], nil
}

func appendRecord(b []byte, kind byte, at time.Time, name string, m proto.Message) ([]byte, error) {
	begin := len(b)
	var data []byte
	if m != nil {
		var err error
		if data, err = proto.Marshal(m); err != nil {
			return b, err
		}
	}
	b = append(b, kind)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(name)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	b = binary.LittleEndian.AppendUint64(b, uint64(at.UnixNano()))
	b = append(append(b, name...), data...)
	return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b[begin:])), nil
}

// rewrite writes the journal anew, with the operations of list.
func (j *journal) rewrite(list []*Operation) error {
	b := []byte(journalHead)
	for _, op := range list {
		var err1, err2 error
		b, err1 = appendRecord(b, 'b', op.begun, op.Name, op.Request)
		if op.response != nil {
			b, err2 = appendRecord(b, 'e', op.ended, op.Name, op.response)
		}
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
	}
	next := j.path + ".new"
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(b); err == nil {
		err = os.Rename(next, j.path)
	}
	if err != nil {
		err = errors.Join(err, f.Close(), os.Remove(next))
		if durable.IsFull(err) {
			return err
		}
		return fmt.Errorf("%w; move it away to begin a new one", err)
	}
	if j.file != nil {
		_ = j.file.Close()
	}
	j.file, j.size = f, int64(len(b))
	j.limit = 2*j.size + 16<<20
	return nil
}

func (j *journal) add(kind byte, at time.Time, name string, m proto.Message) error {
	b, err := appendRecord(nil, kind, at, name, m)
	if err != nil {
		return err
	}
	if _, err := j.file.Write(b); err != nil { // what follows a part of a record would not be read
		return errors.Join(err, j.file.Truncate(j.size))
	}
	j.size += int64(len(b))
	return nil
}

// begin, end and drop are called with Engine.mu; on a nil journal they do
// nothing.
func (j *journal) begin(op *Operation) error {
	if j == nil {
		return nil
	}
	return j.add('b', op.begun, op.Name, op.Request)
}

func (j *journal) end(op *Operation) error {
	if j == nil {
		return nil
	}
	return j.add('e', time.Now(), op.Name, op.response)
}

func (j *journal) drop(name string) error {
	if j == nil {
		return nil
	}
	return j.add('d', time.Now(), name, nil)
}

func (j *journal) close() error { return j.file.Close() }

// compact writes the journal anew when most of it is of no use any more. Needs
// mu.
func (e *Engine) compact() {
	if e.journal == nil || e.journal.size < e.journal.limit {
		return
	}
	list := make([]*Operation, 0, len(e.ops))
	list = append(list, e.done...)
	for _, op := range e.ops {
		if op.response == nil {
			list = append(list, op)
		}
	}
	if err := e.journal.rewrite(list); err != nil {
		e.opts.Log.Warn("operations may not survive a restart", "err", err)
	}
}

// recoverGrace is how long the clients of an operation that was running when
// the server stopped have to come back.
const recoverGrace = time.Minute

// recover takes up what the journal has.
func (e *Engine) recover() {
	if e.journal == nil {
		return
	}
	old := e.journal.old
	e.journal.old = nil
	for _, op := range old {
		if op.response != nil {
			e.mu.Lock()
			e.ops[op.Name] = op
			op.size = op.weigh()
			e.done = append(e.done, op)
			e.bytes += op.size
			e.mu.Unlock()
			continue
		}
		e.again(op)
	}
}

// again runs an operation that was not done when the last server stopped.
func (e *Engine) again(old *Operation) {
	j, err := e.prepare(e.ctx, old.Instance, old.digest)
	if err == nil {
		_, err = e.begin(old.Name, old.Request, j, "")
	}
	if err != nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.ops[old.Name] = old
		e.end(old, &repb.ExecuteResponse{Status: status.Convert(err).Proto()})
	}
}
