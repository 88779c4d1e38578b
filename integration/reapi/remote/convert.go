package remote

import (
	"fmt"
	"strconv"
	"strings"

	rexec "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/sbx-action/sbx-action/action"
)

// ToDigest returns d as the message that it is in the protocol.
func ToDigest(d action.Digest) *rexec.Digest {
	return &rexec.Digest{Hash: d.Hash(), SizeBytes: d.Size()}
}

// FromDigest returns the digest that m is, if its function is f.
func FromDigest(m *rexec.Digest, f action.Function) (action.Digest, error) {
	if m == nil {
		return action.Digest{}, fmt.Errorf("no digest")
	}
	return action.ParseHash(f, m.Hash, m.SizeBytes)
}

// Function returns the digest function that v is. Clients from before REAPI 2.3
// do not say: then the length of a hash tells.
func Function(v rexec.DigestFunction_Value, hash string) (action.Function, error) {
	if v == rexec.DigestFunction_UNKNOWN {
		for _, f := range []action.Function{action.SHA256, action.SHA1, action.MD5, action.SHA384, action.SHA512} {
			if len(hash) == 2*f.Size() {
				return f, nil
			}
		}
		return 0, fmt.Errorf("no digest function that need not be named has a hash of %d characters", len(hash))
	}
	if f := action.Function(v); f.Known() {
		return f, nil
	}
	return 0, fmt.Errorf("digest function %v is not known here", v)
}

// convert moves a message into the type of another package, by their common
// bytes, without what we do not know.
func convert[T any](m proto.Message, f action.Function, parse func([]byte, action.Function) (*T, error)) (*T, error) {
	known := m.ProtoReflect().New().Interface()
	data, err := proto.Marshal(m)
	if err == nil {
		err = proto.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(data, known)
	}
	if err == nil {
		data, err = proto.MarshalOptions{Deterministic: true}.Marshal(known)
	}
	if err != nil {
		return nil, err
	}
	return parse(data, f)
}

// fromResult returns m as a value of package action. The error says what of it
// we do not accept.
func fromResult(m *rexec.ActionResult, f action.Function) (*action.Result, error) {
	return convert(m, f, action.ParseResult)
}

// ToResult returns r as the message that it is in the protocol.
func ToResult(r *action.Result) (*rexec.ActionResult, error) {
	m := new(rexec.ActionResult)
	return m, proto.Unmarshal(r.Marshal(), m)
}

// Resource is the part of a resource name that follows the instance and, for
// uploads, the UUID.
func Resource(d action.Digest) string {
	b := strings.Builder{}
	b.WriteString("blobs/")
	switch f := d.Function(); f {
	case action.BLAKE3, action.SHA256Tree, action.GitSHA1: // older ones are told by the length of the hash
		b.WriteString(f.String())
		b.WriteByte('/')
	}
	b.WriteString(d.Hash())
	b.WriteByte('/')
	b.WriteString(strconv.FormatInt(d.Size(), 10))
	return b.String()
}

func (c *Client) inInstance(name string) string {
	if c.instance == "" {
		return name
	}
	return c.instance + "/" + name
}

// code is the status code of a part of an answer.
func code(c int32) codes.Code { return codes.Code(c) }
