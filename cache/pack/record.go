package pack

import (
	"crypto/sha256"
	"fmt"

	"github.com/sbx-action/sbx-action/action"
)

// recordSum is what a record begins with: it is not named after its content, so
// that something must say whether it is whole.
func recordSum(key action.Digest, data []byte) (sum [sha256.Size]byte) {
	h := sha256.New()
	k := key.Bytes()
	h.Write([]byte{byte(key.Function())})
	h.Write(k[:])
	h.Write(data)
	h.Sum(sum[:0])
	return sum
}

func isRecord(key action.Digest, b []byte) bool {
	return len(b) >= sha256.Size && [sha256.Size]byte(b) == recordSum(key, b[sha256.Size:])
}

// PutRecord keeps data under key, in place of an earlier one. Of the key, the
// function and the first 32 bytes of the hash matter.
func (p *Pack) PutRecord(key action.Digest, data []byte) error {
	if len(data) == 0 || len(data) > MaxSize-sha256.Size {
		return fmt.Errorf("pack: a record of %d bytes", len(data))
	}
	<-p.loaded
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.putRecord(key, data)
}

// putRecord needs mu.
func (p *Pack) putRecord(key action.Digest, data []byte) error {
	if p.ctx.Err() != nil {
		return p.ctx.Err()
	}
	sum := recordSum(key, data)
	size := len(sum) + len(data)
	p.buf = append(appendHeader(p.buf[:0], keyMark, key, size), sum[:]...)
	p.buf = append(p.buf, data...)
	return p.append([]entry{{tagOf(keyMark, key.Function(), key.Bytes()), placeOf(0, 0, size)}})
}

// Record returns what is kept under key.
func (p *Pack) Record(key action.Digest) ([]byte, bool) {
	at, ok := p.lookup(keyMark, key.Function(), key.Bytes())
	if !ok {
		return nil, false
	}
	b, ok := p.content(keyMark, key, at, func(b []byte) bool { return isRecord(key, b) })
	if !ok || len(b) == sha256.Size {
		return nil, false
	}
	return b[sha256.Size:], true
}

// DropRecord makes it so that nothing is kept under key, also after a restart.
func (p *Pack) DropRecord(key action.Digest) error {
	<-p.loaded
	p.mu.Lock()
	defer p.mu.Unlock()
	at, ok := p.places[tagOf(keyMark, key.Function(), key.Bytes())]
	if !ok || at.size() == sha256.Size {
		return nil
	}
	return p.putRecord(key, nil)
}
