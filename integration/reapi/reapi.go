// Package reapi is the Remote Execution API's way of saying what package action
// says: digests and their functions, names of resources, and errors. The
// services are in packages of their own below it.
//
// Messages are turned into each other through their bytes, which package action
// writes as generated code would: see [Proto].
package reapi

import (
	"errors"
	"fmt"
	"strconv"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sbx-action/sbx-action/action"
)

// byLength are the functions that a client may leave unsaid, by the length of
// the hash in hex: REAPI wants those to be told that came later.
var byLength = map[int]action.Function{
	32: action.MD5, 40: action.SHA1, 64: action.SHA256, 96: action.SHA384, 128: action.SHA512,
}

// Function is the digest function that a request names, or else the one that
// the hash of one of its digests implies. The error is a status.
func Function(v repb.DigestFunction_Value, hash string) (action.Function, error) {
	if v == repb.DigestFunction_UNKNOWN {
		f, ok := byLength[len(hash)]
		if !ok && hash != "" {
			return 0, status.Errorf(codes.InvalidArgument, "hash %q: no digest function has hashes of %d characters", clip(hash), len(hash))
		}
		if !ok {
			f = action.SHA256
		}
		return f, nil
	}
	if v < 0 || v > 255 || !action.Function(v).Known() {
		return 0, status.Errorf(codes.InvalidArgument, "digest function %v is not served here: use one that GetCapabilities lists", v)
	}
	return action.Function(v), nil
}

// Digest is the digest that d says. The error is a status that names d.
func Digest(f action.Function, d *repb.Digest) (action.Digest, error) {
	if d == nil || d.Hash == "" && d.SizeBytes == 0 {
		return action.Digest{}, status.Error(codes.InvalidArgument, "a digest is missing")
	}
	parsed, err := action.ParseHash(f, d.Hash, d.SizeBytes)
	if err != nil {
		return action.Digest{}, status.Errorf(codes.InvalidArgument, "digest %q/%d: %v", clip(d.Hash), d.SizeBytes, err)
	}
	if parsed.Size() == 0 && parsed != action.Sum(f, nil) {
		return action.Digest{}, status.Errorf(codes.InvalidArgument, "digest %s/0: nothing that is empty has this hash", d.Hash)
	}
	return parsed, nil
}

// InferDigest is [Function] and [Digest] in one.
func InferDigest(v repb.DigestFunction_Value, d *repb.Digest) (action.Digest, error) {
	f, err := Function(v, d.GetHash())
	if err != nil {
		return action.Digest{}, err
	}
	return Digest(f, d)
}

// ToDigest is d as a message; nil for the zero digest.
func ToDigest(d action.Digest) *repb.Digest {
	if d.IsZero() {
		return nil
	}
	return &repb.Digest{Hash: d.Hash(), SizeBytes: d.Size()}
}

// ToFunction is f as REAPI numbers it, which is how we do.
func ToFunction(f action.Function) repb.DigestFunction_Value { return repb.DigestFunction_Value(f) }

// Proto fills m, a generated message, from what a Marshal method of package
// action wrote.
func Proto(marshaled []byte, m proto.Message) error {
	if err := proto.Unmarshal(marshaled, m); err != nil {
		return fmt.Errorf("our own message is malformed: %w", err)
	}
	return nil
}

// Result is the result that m says, whose digests are of f. The error is a
// status. What the message has that REAPI does not know is left out, and so are
// contents that have a digest beside them, which must be theirs: clients take
// what is inside a result for what its digest names.
func Result(f action.Function, m *repb.ActionResult) (*action.Result, error) {
	data, err := proto.Marshal(m)
	if err == nil {
		m = new(repb.ActionResult)
		err = proto.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(data, m)
	}
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "action result: %v", err)
	}
	if err := leaveOutContents(f, m); err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "action result: %v", err)
	}
	sortResult(m)
	data, err = proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "action result: %v", err)
	}
	res, err := action.ParseResult(data, f)
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "action result: %v", err)
	}
	return res, nil
}

func leaveOutContents(f action.Function, m *repb.ActionResult) error {
	leaveOut := func(what string, data *[]byte, d *repb.Digest) error {
		if len(*data) == 0 || d == nil {
			return nil
		}
		if sum := action.Sum(f, *data); sum.Hash() != d.Hash || sum.Size() != d.SizeBytes {
			return fmt.Errorf("what is inside for %s has digest %v, and not that beside it, %s/%d", what, sum, clip(d.Hash), d.SizeBytes)
		}
		*data = nil
		return nil
	}
	for _, o := range m.OutputFiles {
		if err := leaveOut(strconv.Quote(clip(o.Path)), &o.Contents, o.Digest); err != nil {
			return err
		}
	}
	return errors.Join(
		leaveOut("standard output", &m.StdoutRaw, m.StdoutDigest), leaveOut("standard error", &m.StderrRaw, m.StderrDigest),
	)
}

// ToResult is res as a message.
func ToResult(res *action.Result) (*repb.ActionResult, error) {
	m := new(repb.ActionResult)
	if err := Proto(res.Marshal(), m); err != nil {
		return nil, err
	}
	return m, nil
}

// clip keeps what hostile clients send out of logs and answers.
func clip(s string) string {
	if len(s) > 140 {
		return s[:140] + "…"
	}
	return s
}
