package action

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/proto"
)

// A kind is one of the five messages, seen from both codes.
type kind struct {
	name   string
	random func(*source) (ours any, ourBytes []byte, theirs proto.Message)
	// parse returns the message, its bytes, and the error of the parser.
	parse func([]byte) (ours any, ourBytes []byte, err error)
	empty func() proto.Message
}

type marshaler[T any] interface {
	*T
	Marshal() []byte
	Check() error
}

func newKind[T any, P marshaler[T], M proto.Message](
	name string, random func(*source) T, convert func(T) M, parse func([]byte, Function) (P, error),
) kind {
	return kind{
		name: name,
		random: func(s *source) (any, []byte, proto.Message) {
			m := random(s)
			return m, P(&m).Marshal(), convert(m)
		},
		parse: func(b []byte) (any, []byte, error) {
			m, err := parse(b, BLAKE3)
			if err != nil {
				return nil, nil, err
			}
			return *m, m.Marshal(), nil
		},
		empty: func() proto.Message { return (*new(M)).ProtoReflect().New().Interface() },
	}
}

var kinds = []kind{
	newKind("Directory", (*source).directory, directoryProto, ParseDirectory),
	newKind("Tree", (*source).tree, treeProto, ParseTree),
	newKind("Command", (*source).command, commandProto, ParseCommand),
	newKind("Action", (*source).action, actionProto, ParseAction),
	newKind("Result", (*source).result, resultProto, ParseResult),
}

// checkMarshal holds one message made from data against the generated code.
func checkMarshal(t *testing.T, k kind, data []byte, valid bool) {
	ours, b, theirs := k.random(&source{data: data, valid: valid})
	want := deterministic(t, theirs)
	if !bytes.Equal(b, want) {
		t.Fatalf("%s %+v:\n ours %x\nwant %x", k.name, ours, b, want)
	}
	if !valid {
		return
	}
	got, again, err := k.parse(want)
	if err != nil {
		t.Fatalf("parse a valid %s %+v: %v", k.name, ours, err)
	}
	if !reflect.DeepEqual(got, ours) {
		t.Fatalf("parse %s:\n got %+v\nwant %+v", k.name, got, ours)
	}
	if !bytes.Equal(again, want) {
		t.Fatalf("parse and marshal %s:\n got %x\nwant %x", k.name, again, want)
	}
}

func TestMarshalAsGenerated(t *testing.T) {
	rnd := rand.NewChaCha8([32]byte{1})
	for _, k := range kinds {
		for n := range 1000 {
			data := make([]byte, n/2)
			rnd.Read(data)
			checkMarshal(t, k, data, n%2 == 0)
		}
	}
}

func FuzzMarshal(f *testing.F) {
	rnd := rand.NewChaCha8([32]byte{2})
	for range 20 {
		data := make([]byte, 300)
		rnd.Read(data)
		f.Add(data, true)
		f.Add(data, false)
	}
	f.Fuzz(func(t *testing.T, data []byte, valid bool) {
		for _, k := range kinds {
			checkMarshal(t, k, data, valid)
		}
	})
}

// checkParse wants of a parser that accepts data that data is what we, and
// the generated code, write for it.
func checkParse(t *testing.T, k kind, data []byte) {
	ours, again, err := k.parse(data)
	if err != nil {
		return
	}
	if !bytes.Equal(again, data) {
		t.Fatalf("%s %+v:\nparsed  %x\nmarshal %x", k.name, ours, data, again)
	}
	theirs := k.empty()
	if err := proto.Unmarshal(data, theirs); err != nil {
		t.Fatalf("%s %x: we accept what the generated code does not: %v", k.name, data, err)
	}
	if b := deterministic(t, theirs); !bytes.Equal(b, data) {
		t.Fatalf("%s: we accept %x, the generated code writes %x", k.name, data, b)
	}
}

func FuzzParse(f *testing.F) {
	rnd := rand.NewChaCha8([32]byte{3})
	for range 10 {
		data := make([]byte, 300)
		rnd.Read(data)
		for _, k := range kinds {
			_, b, _ := k.random(&source{data: data, valid: true})
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, k := range kinds {
			checkParse(t, k, data)
		}
	})
}

// TestParseMutations changes each byte of valid messages, which reaches deeper
// than random bytes do in a short time.
func TestParseMutations(t *testing.T) {
	rnd := rand.NewChaCha8([32]byte{4})
	accepted := 0
	for _, k := range kinds {
		for range 8 {
			data := make([]byte, 100)
			rnd.Read(data)
			_, b, _ := k.random(&source{data: data, valid: true})
			for i := range b[:min(len(b), 400)] {
				for _, delta := range []byte{1, 0x10, 0x80, byte(rnd.Uint64())} {
					mutant := bytes.Clone(b)
					mutant[i] += delta
					checkParse(t, k, mutant)
					if _, _, err := k.parse(mutant); err == nil {
						accepted++
					}
				}
				checkParse(t, k, b[:i])
				checkParse(t, k, append(bytes.Clone(b[:i]), b[i+1:]...))
			}
		}
	}
	if accepted == 0 {
		t.Error("no mutant was accepted, so nothing was compared")
	}
}

func TestTreeIsAStreamOfRecords(t *testing.T) {
	// What REAPI says of a topologically sorted tree: a stream of records.
	leaf := Directory{Files: []FileNode{{Name: "f", Digest: Sum(SHA256, nil)}}}
	tree := Tree{Root: Directory{Directories: []DirectoryNode{{"d", leaf.Digest(SHA256)}}}, Children: []Directory{leaf}}
	var want []byte
	for i, d := range []*Directory{&tree.Root, &leaf} {
		b := d.Marshal()
		want = append(want, byte(0x0a+8*i), byte(len(b)))
		want = append(want, b...)
	}
	if got := tree.Marshal(); !bytes.Equal(got, want) {
		t.Errorf("got %x\nwant %x", got, want)
	}
	if got := (&Tree{}).Marshal(); !bytes.Equal(got, []byte{0x0a, 0}) {
		t.Errorf("empty tree: %x", got)
	}
	var theirs repb.Tree
	if err := proto.Unmarshal(want, &theirs); err != nil {
		t.Fatal(err)
	}
}
