package cache

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"syscall"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/internal/durable"
)

// A record is a small file that carries its own checksum: 4 bytes of magic,
// the SHA-256 of name, a zero byte and the payload, and the payload. Because
// the name is covered, a record that was moved is damaged.
const recordHead = 4 + sha256.Size

// recordMax bounds what a damaged directory can make us read.
const recordMax = 256 << 20

// recordName is the name of the record under key. The key's size is left out,
// because the name of the file does not tell it.
//
// Of a long hash it is what is in the name of the file: see action.Shortened.
func recordName(key action.Digest) string {
	return key.Function().String() + ":" + key.Hash()[:2*min(key.Function().Size(), sha256.Size)]
}

func recordSum(name string, payload []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write([]byte(name))
	h.Write([]byte{0})
	h.Write(payload)
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	return sum
}

func appendRecord(b []byte, magic, name string, payload []byte) []byte {
	return append(appendHead(b, magic, name, payload), payload...)
}

// appendHead appends what is in front of the payload of a record.
func appendHead(b []byte, magic, name string, payload []byte) []byte {
	sum := recordSum(name, payload)
	return append(append(b, magic...), sum[:]...)
}

// errRecord is wrapped by the error of a record that is not what was written.
var errRecord = errors.New("damaged record")

// readRecord returns the payload of the record in the file path.
func readRecord(path, magic, name string) ([]byte, durable.FileInfo, error) {
	fd, err := durable.OpenRead(path)
	if errors.Is(err, syscall.ELOOP) {
		return nil, durable.FileInfo{}, fmt.Errorf("%w: a link", errRecord)
	}
	if err != nil {
		return nil, durable.FileInfo{}, err
	}
	defer durable.Close(fd)
	fi, err := durable.FStat(fd, path)
	if err != nil {
		return nil, fi, err
	}
	if !fi.Mode.IsRegular() || fi.Size < recordHead || fi.Size > recordMax {
		return nil, fi, fmt.Errorf("%w: %s of %d bytes", errRecord, fi.Mode.Type(), fi.Size)
	}
	data := make([]byte, fi.Size)
	n, err := durable.Read(fd, data)
	if err != nil {
		return nil, fi, err
	}
	payload, err := parseRecord(data[:n], magic, name)
	return payload, fi, err
}

func parseRecord(data []byte, magic, name string) ([]byte, error) {
	if len(data) < recordHead {
		return nil, fmt.Errorf("%w: it ends early", errRecord)
	}
	if string(data[:4]) != magic {
		return nil, fmt.Errorf("%w: it begins with %q, want %q", errRecord, data[:4], magic)
	}
	payload := data[recordHead:]
	if sum := recordSum(name, payload); !bytes.Equal(sum[:], data[4:recordHead]) {
		return nil, fmt.Errorf("%w: its checksum does not match", errRecord)
	}
	return payload, nil
}

// writeRecord puts a record in the place of what there is under key.
func (s *Store) writeRecord(kind Kind, key action.Digest, magic string, payload []byte) error {
	path := s.shard(kind.String(), key)
	dir := shardDir(path)
	t, err := s.draft(dir)
	if err != nil {
		return err
	}
	defer t.Close()
	head := appendHead(make([]byte, 0, recordHead), magic, recordName(key), payload)
	if _, err := t.WriteParts([][]byte{head, payload}); err != nil {
		return s.explain(err)
	}
	err = s.inDir(dir, func() error {
		err := t.Publish(path)
		if inTheWay(err) {
			err = s.supplant(t, path)
		}
		return err
	})
	if err != nil {
		return s.explain(err)
	}
	s.logbook.add(s, kind, key, t.Len())
	return nil
}
