package cc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
)

// Meson compiles each of its checks in a directory of its own, with a random name, and
// names source and output absolutely. Such a call can only come from the cache if that name
// is not in its key. So the directory is shown at asideRoot, which stands for it in the
// arguments, and what comes out is good for a directory of any name if nothing of asideRoot
// is in it. Where there is, the run is as good as none, and the call goes the usual way.
// Others that compile in such directories are in [Renaming].

// asideRoot has no character that a compiler changes where it makes a symbol of the name of
// a file, and nobody else has a directory of that name.
const asideRoot = "/sbxaside5f2c71d9"

// revealing are the beginnings of options, besides the immovable ones, by which names of
// files come into outputs in such a way that they are not found there, or are changed.
var revealing = []string{
	"-M", "-Wp,", "-Wa,", "-X", "-x", "-T", "-emit-", "-fembed-", "-fmodule", "-fcoverage", "-fdebug", "-funique", "-ffile-", "-fmacro-",
	"-fsave", "-fmessage-length", "-frandom-seed", "-fcs-profile", "-fmemory-profile", "-index", "-include-pch", "-fsanitize", "-fexec-charset", "-fwide-exec-charset", "-finput-charset", "-H", "-Wl,-M", "-Wl,--print-map", "-Wl,--plugin", "-Wl,-plugin", "-Wl,-T", "--",
}

// selfNames are the names by which a source asks what it is called, to compute with that:
// clang names a lambda after its file.
var selfNames = [][]byte{[]byte("__FILE__"), []byte("__BASE_FILE__"), []byte("__builtin_FILE"), []byte("source_location"), []byte("__PRETTY_FUNCTION__"), []byte("__FUNCSIG__"), []byte("__FILE_FULL_PATH__"), []byte("__assert")}

// selfPieces are what the first of them is put together from, by "##".
var selfPieces = []string{"__F", "__FI", "__FIL", "__FILE", "__FILE_", "_FILE__", "FILE__", "ILE__", "LE__", "E__"}

// asksPieced says whether a source has one of selfNames in pieces, or on two lines.
func asksPieced(text []byte) bool {
	for _, end := range []string{"\\\n", "\\\r\n"} {
		if whole := bytes.ReplaceAll(text, []byte(end), nil); len(whole) < len(text) && slices.ContainsFunc(selfNames, func(name []byte) bool { return bytes.Contains(whole, name) }) {
			return true
		}
	}
	return slices.ContainsFunc(selfPieces, func(p string) bool {
		for rest := text; ; {
			i := bytes.Index(rest, []byte(p))
			if i < 0 {
				return false
			}
			end := i + len(p)
			if (i == 0 || !isAlnum(string(rest[i-1:i]))) && (end == len(rest) || !isAlnum(string(rest[end:end+1]))) {
				return true
			}
			rest = rest[end:]
		}
	})
}

// madeForOne says whether a directory of that name is one of Python's for a short time.
func madeForOne(name string) bool {
	random, ok := strings.CutPrefix(name, "tmp")
	return ok && len(random) == 8 && strings.Trim(random, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

// Aside returns the directory of a call that compiles a source in a directory made for that
// alone, and whose result may be the same where that has another name; else "".
func (c *Call) Aside(env []action.EnvironmentVariable) string {
	dir, random := c.Dir, filepath.Base(c.Dir)
	switch c.Kind {
	case Compile, Preprocess, Link:
	default:
		return ""
	}
	if c.Script || c.Stdin || c.assembles() || c.Jobserver || c.Sources != 1 || len(c.responses) > 0 || !madeForOne(random) {
		return ""
	}
	source := func(name string) bool {
		return slices.Contains([]string{dir + "/testfile.c", dir + "/testfile.cc", dir + "/testfile.cpp"}, name)
	}
	if !slices.ContainsFunc(c.Inputs, source) || slices.ContainsFunc(c.Outputs, func(o string) bool { return filepath.Dir(o) != dir }) {
		return ""
	}
	if strings.ContainsFunc(dir, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("\"'\\:;,=()<>", r) }) {
		return ""
	}
	for _, a := range c.Args {
		if strings.Contains(a, random) && !source(a) && !slices.Contains(c.Outputs, a) || slices.ContainsFunc(selfNames, func(n []byte) bool { return strings.Contains(a, string(n)) }) {
			return ""
		}
		if a != "-g0" && slices.ContainsFunc(slices.Concat(immovable, revealing), func(o string) bool { return strings.HasPrefix(a, o) }) {
			return ""
		}
	}
	for _, v := range env {
		if strings.Contains(v.Value, random) && (v.Name != "PWD" || v.Value != dir) {
			return ""
		}
	}
	return dir
}

func (s *Session) aside() bool { return s.view.stand == asideRoot || s.view.names != nil }

// backFromAside is text with the directory's own name in it.
func (s *Session) backFromAside(text []byte) []byte {
	if !bytes.Contains(text, []byte(asideRoot)) {
		return text
	}
	return []byte(moved(string(text), asideRoot, s.view.base))
}

// Aside finds the result of a session with [Aside], or makes it, and says false where the
// call has to go another way: its result depends on the name of the directory, or something
// went wrong; and, in a directory of no name, where it fails.
func (s *Session) Aside(ctx context.Context, o Options) (*Done, bool, error) {
	if o.ReadOnly { // what cannot be kept would not be looked at
		done, ok := s.Find(ctx)
		return done, ok, nil
	}
	key := action.Sum(s.parts.Function, []byte("cc aside\x00"+s.Key().String()))
	if _, err := s.parts.Notes.Note(ctx, key); err == nil || s.dirDepends(ctx) {
		return nil, false, nil
	}
	done, err := s.Run(ctx, o)
	if err != nil && s.view.names != nil && !errors.Is(err, ErrBlind) { // there may be other sandboxes
		return done, true, err
	}
	if err == nil && done.Unkept == nil && (done.Result.ExitCode == 0 || s.view.names != nil) {
		return done, true, nil
	}
	if err == nil && (done.Unkept == nil || errors.Is(done.Unkept, errPlace)) {
		_ = s.parts.Notes.PutNote(ctx, key, []byte("1")) // so that it is not tried each time
		if s.view.names != nil {
			_ = s.parts.Notes.PutNote(ctx, s.dirKey(), []byte("1"))
		}
	}
	return nil, false, nil
}

func (s *Session) dirKey() action.Digest {
	return action.Sum(s.parts.Function, []byte("cc aside in\x00"+s.call.Dir))
}

// dirDepends says whether another call in the renamed directory of this one has turned out
// to depend on its name. A project in such a directory is not compiled twice, file by file.
func (s *Session) dirDepends(ctx context.Context) bool {
	if s.view.names == nil || !s.view.names.holds(s.call.Dir) {
		return false
	}
	_, err := s.parts.Notes.Note(ctx, s.dirKey())
	return err == nil
}

// dependsOnName says whether anything of a run aside depends on the name of its directory,
// or on where that is. Of the outputs the collector has seen it, of sources vet sees it.
func (s *Session) dependsOnName(lookups []backends.Lookup) bool {
	if s.view.names != nil {
		s.inside = s.readsInside(lookups)
		// By its own name, which a source says, a file is another one: see #pragma once.
		return s.placed != "" || slices.ContainsFunc(lookups, func(l backends.Lookup) bool { return s.view.names.has(l.Path) })
	}
	if s.placed != "" || bytes.Contains(s.backFromAside(s.heard()), []byte(asideRoot[1:])) {
		return true
	}
	for _, l := range lookups {
		rest, in := under(l.Path, asideRoot)
		if !in {
			if strings.Contains(l.Path, asideRoot[1:]) {
				return true // by a way that we do not know
			}
			continue
		}
		if strings.Contains(rest+"/", "/../") {
			return true
		}
		at := s.view.base
		for name := range strings.SplitSeq(rest, "/") { // no link, which may lead out
			at = path.Join(at, name)
			if info, err := os.Lstat(at); err == nil && info.Mode()&os.ModeSymlink != 0 {
				return true
			}
		}
	}
	return false
}

// vetName refuses a file in which a source may ask for its name. The libraries of the
// languages only say it.
func (s *Session) vetName(host string) error {
	if strings.HasPrefix(host, "/usr/include/") && (strings.Contains(host, "/c++/") || path.Base(host) == "assert.h") {
		return nil
	}
	f, err := os.Open(host)
	if err != nil {
		return err
	}
	defer f.Close()
	var head [8]byte
	n, _ := f.ReadAt(head[:], 0)
	if bytes.HasPrefix(head[:n], []byte("\x7fELF")) || bytes.HasPrefix(head[:n], []byte("!<arch>")) {
		return s.vetLinked(host, f, false)
	}
	if s.view.names != nil && !s.inside {
		return s.vetLinked(host, f, true)
	}
	asks, err := s.scan(f, 2*len("__PRETTY_FUNCTION__"), func(text []byte) bool {
		return !ofSystem(host) && asksPieced(text) || slices.ContainsFunc(selfNames, func(name []byte) bool { return bytes.Contains(text, name) })
	})
	if err == nil && !asks && !precompiled(host) {
		return s.vetLinked(host, f, true)
	}
	if err == nil {
		err = fmt.Errorf("%s %w", host, errPlace)
	}
	return err
}
