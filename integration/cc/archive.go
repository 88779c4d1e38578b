package cc

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
)

// datedArchive says whether a member of the archive f has a date, or an owner:
// then the archive is another one each time. What is no archive has none.
//
// An archive is "!<arch>\n" (of a thin one "!<thin>\n"), and for each member 60
// bytes, of which 16 to 28 are the date in decimal, 28 to 34 the owner, and 48 to
// 58 the size; the member follows, padded to an even length. Of a thin archive
// only the members "/" and "//" follow.
func datedArchive(f io.ReaderAt) (bool, error) {
	var head [60]byte
	if _, err := f.ReadAt(head[:8], 0); err != nil || !bytes.Equal(head[:8], []byte("!<arch>\n")) && !bytes.Equal(head[:8], []byte("!<thin>\n")) {
		return false, nil
	}
	thin := head[2] == 't'
	for at := int64(8); ; {
		_, err := f.ReadAt(head[:], at)
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		name := strings.TrimRight(string(head[:16]), " ")
		date, owner := strings.TrimRight(string(head[16:28]), " "), strings.TrimRight(string(head[28:34]), " ")
		if date != "0" && date != "" || owner != "0" && owner != "" {
			return true, nil
		}
		size, err := strconv.ParseInt(strings.TrimRight(string(head[48:58]), " "), 10, 64)
		if err != nil || size < 0 {
			return true, nil
		}
		at += 60
		if !thin || name == "/" || name == "//" || name == "/SYM64/" {
			at += size + size%2
		}
	}
}
