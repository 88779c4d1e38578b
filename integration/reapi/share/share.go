// Package share is how the light command reaches a remote cache and a cluster:
// through an agent, one process for each user, that speaks gRPC for all of them.
//
// The two meet in the store: the agent puts what it fetches there, and takes
// from there what it sends, so that no blob goes through the socket, and what
// came from a remote is a local hit from then on.
//
// # The protocol, version 1
//
// A stream socket of the Unix domain, in a directory that nobody else can
// enter. Both sides send frames:
//
//	4 bytes   the length of the rest, little-endian, at most 1 MiB
//	1 byte    the kind
//	fields    each a length (uvarint) and as many bytes
//
// A client says hello, gets welcome, and then asks one thing after the other,
// each of which has one answer; busy may come before it any number of times.
//
//	h  hello    the words "sbx-share 1", then the fields of [Target] in their order
//	n  note     a digest: get what the remote knows of this unsealed action
//	r  result   a digest: get this result and every blob of it
//	p  put      a digest: send this result, when there is time
//	x  execute  a digest, and "1" to execute in any case: execute this action; it,
//	            its command and its inputs are in the store
//	f  flush    wait until everything is sent
//	i  info     how things are, for people
//	q  quit     end when nothing is left to do
//
//	w  welcome
//	y  yes      it is in the store now, or done; of execute: the result, "1" if
//	            it was cached; of info: the text
//	m  miss     why: the remote does not have it
//	d  down     why: the remote is not to be had, and "1" if the user should be told
//	e  error    why: what was asked is wrong, or failed for a reason of its own
//	b  busy     what is being done
//
// Digests are as [action.Digest.String] writes them.
package share

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/sbx-action/sbx-action/action"
)

// Version is the first field of hello.
const Version = "sbx-share 1"

// The kinds of frames.
const (
	Hello   = 'h'
	Note    = 'n'
	Result  = 'r'
	Put     = 'p'
	Execute = 'x'
	Flush   = 'f'
	Info    = 'i'
	Quit    = 'q'

	Welcome = 'w'
	Yes     = 'y'
	Miss    = 'm'
	Down    = 'd'
	Error   = 'e'
	Busy    = 'b'
)

// A Target is the remote that a client wants, and the store that it has. Files
// are absolute paths.
type Target struct {
	Store   string // its directory
	Address string // grpc://HOST:PORT/INSTANCE
	CA      string // a file: certificates to trust
	Cert    string // a file: our certificate
	Key     string // a file: its key
	Headers string // a file: a line "name: value" for each
	Timeout time.Duration
}

// Fields are what hello says of t.
func (t Target) Fields() []string {
	return []string{Version, t.Store, t.Address, t.CA, t.Cert, t.Key, t.Headers, t.Timeout.String()}
}

// CheckAddress says why s is not an address of a remote, or nil.
func CheckAddress(s string) error {
	rest, ok := strings.CutPrefix(s, "grpc://")
	if !ok {
		rest, ok = strings.CutPrefix(s, "grpcs://")
	}
	if !ok {
		return fmt.Errorf("address %q: want grpc://HOST:PORT/INSTANCE, or grpcs:// for TLS", s)
	}
	host, instance, _ := strings.Cut(rest, "/")
	if strings.ContainsRune(host, '@') {
		return errors.New("no user or password in an address: give a header instead (SBX_REMOTE_HEADERS)")
	}
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		if n, err := strconv.Atoi(host[i+1:]); err != nil || n < 1 || n > 65535 {
			return fmt.Errorf("address %q: port %q is not from 1 to 65535", s, host[i+1:])
		}
		host = host[:i]
	}
	if host == "" || strings.ContainsAny(rest, "?#") {
		return fmt.Errorf("address %q: want grpc://HOST:PORT/INSTANCE, or grpcs:// for TLS", s)
	}
	for part := range strings.SplitSeq(strings.Trim(instance, "/"), "/") {
		switch part {
		case "blobs", "uploads", "actions", "actionResults", "operations", "capabilities", "compressed-blobs":
			return fmt.Errorf("instance %q: %q has a meaning of its own in the protocol", instance, part)
		}
	}
	return nil
}

// ParseTarget is the reverse of Fields.
func ParseTarget(fields []string) (t Target, err error) {
	if len(fields) == 0 || fields[0] != Version {
		return t, fmt.Errorf("this agent speaks %q: end it with 'sbx-action remote stop'", Version)
	}
	if len(fields) != len(t.Fields()) {
		return t, fmt.Errorf("hello with %d fields", len(fields))
	}
	t = Target{Store: fields[1], Address: fields[2], CA: fields[3], Cert: fields[4], Key: fields[5], Headers: fields[6]}
	t.Timeout, err = time.ParseDuration(fields[7])
	if err == nil && t.Timeout <= 0 {
		err = errors.New("no time-out")
	}
	return t, err
}

// frameMax is the longest frame, without its length.
const frameMax = 1 << 20

var errFrame = errors.New("malformed frame")

// WriteFrame writes one frame, in one write.
func WriteFrame(w io.Writer, kind byte, fields ...string) error {
	b := append(make([]byte, 4, 256), kind)
	for _, f := range fields {
		b = append(binary.AppendUvarint(b, uint64(len(f))), f...)
	}
	if len(b)-4 > frameMax {
		return fmt.Errorf("a frame of %d bytes", len(b)-4)
	}
	binary.LittleEndian.PutUint32(b, uint32(len(b)-4))
	_, err := w.Write(b)
	return err
}

// ReadFrame reads one frame. [io.EOF] means that the other side is gone.
func ReadFrame(r io.Reader) (kind byte, fields []string, err error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n < 1 || n > frameMax {
		return 0, nil, fmt.Errorf("%w: %d bytes", errFrame, n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return 0, nil, io.ErrUnexpectedEOF
	}
	kind, b = b[0], b[1:]
	for len(b) > 0 {
		size, used := binary.Uvarint(b)
		if used <= 0 || size > uint64(len(b)-used) {
			return 0, nil, fmt.Errorf("%w: a field of %d bytes where %d are left", errFrame, size, len(b))
		}
		fields = append(fields, string(b[used:used+int(size)]))
		b = b[used+int(size):]
	}
	return kind, fields, nil
}

// A DownError says that the remote is not to be had at present.
type DownError struct {
	Why string
	Say bool // nobody has been told for a while
}

func (e *DownError) Error() string { return e.Why }

// asked is the error that an answer is, or nil.
func asked(kind byte, fields []string) error {
	field := func(i int) string {
		if i < len(fields) {
			return fields[i]
		}
		return ""
	}
	switch kind {
	case Yes, Welcome:
		return nil
	case Miss:
		return fmt.Errorf("%s: %w", field(0), action.ErrMiss)
	case Down:
		return &DownError{field(0), field(1) == "1"}
	case Error:
		return errors.New(field(0))
	}
	return fmt.Errorf("%w: an answer of kind %q", errFrame, kind)
}
