package reapi

import (
	"slices"
	"strconv"
	"strings"
	"unicode"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sbx-action/sbx-action/action"
)

// keywords cannot be a segment of an instance's name.
var keywords = []string{"blobs", "uploads", "actions", "actionResults", "operations", "capabilities", "compressed-blobs"}

// instanceMax bounds the name of an instance, in bytes.
const instanceMax = 256

// CheckInstance says, as a status, why name cannot be that of an instance.
func CheckInstance(name string) error {
	if name == "" {
		return nil
	}
	if len(name) > instanceMax {
		return status.Errorf(codes.InvalidArgument, "instance name of %d bytes: at most %d are allowed", len(name), instanceMax)
	}
	if strings.ContainsFunc(name, unicode.IsControl) {
		return status.Errorf(codes.InvalidArgument, "instance name %q: control characters are not allowed", name)
	}
	for segment := range strings.SplitSeq(name, "/") {
		if segment == "" || segment == logStreams || slices.Contains(keywords, segment) {
			return status.Errorf(codes.InvalidArgument, "instance name %q: a segment %q is not allowed", name, segment)
		}
	}
	return nil
}

// A Resource is what the name of a blob in the ByteStream API says:
//
//	[INSTANCE/]blobs/[FUNCTION/]HASH/SIZE
//	[INSTANCE/]compressed-blobs/COMPRESSOR/[FUNCTION/]HASH/SIZE
//
// and, for writing, uploads/UUID/ in front of the keyword and any further
// segments at the end.
type Resource struct {
	Instance   string
	Upload     string // the UUID; "" for reading
	Compressor repb.Compressor_Value
	Digest     action.Digest
}

// ParseRead parses the name of a blob that is to be read.
func ParseRead(name string) (Resource, error) {
	r, rest, err := parseResource(name, name, false)
	if err == nil && len(rest) > 0 {
		err = malformed(name, "something follows the size")
	}
	return r, err
}

// ParseWrite parses the name of a blob that is to be written.
func ParseWrite(name string) (Resource, error) {
	r, _, err := parseResource(name, name, true)
	return r, err
}

// nameMax bounds the name of a resource, in bytes: what an upload has come to is kept by
// its name.
const nameMax = 4096

func malformed(name, why string) error {
	return status.Errorf(codes.InvalidArgument, "resource name %q: %s", clip(name), why)
}

func parseResource(name, full string, write bool) (r Resource, rest []string, err error) {
	if len(name) > nameMax {
		return r, nil, malformed(full, strconv.Itoa(len(name))+" bytes, and at most "+strconv.Itoa(nameMax)+" are allowed")
	}
	parts := strings.Split(name, "/")
	at := slices.IndexFunc(parts, func(s string) bool { return slices.Contains(keywords, s) })
	if at < 0 {
		return r, nil, malformed(full, "want [INSTANCE/]blobs/HASH/SIZE, with uploads/UUID/ before blobs for a write")
	}
	r.Instance = strings.Join(parts[:at], "/")
	if at > 0 && r.Instance == "" {
		return r, nil, malformed(full, "it begins with a slash")
	}
	if err := CheckInstance(r.Instance); err != nil {
		return r, nil, err
	}
	parts = parts[at:]
	if write {
		if parts[0] != "uploads" || len(parts) < 2 || parts[1] == "" {
			return r, nil, malformed(full, "want uploads/UUID/blobs/HASH/SIZE")
		}
		r.Upload, parts = parts[1], parts[2:]
	}
	if len(parts) == 0 {
		return r, nil, malformed(full, "it ends early")
	}
	switch parts[0] {
	case "blobs":
		parts = parts[1:]
	case "compressed-blobs":
		if len(parts) < 2 || parts[1] != "zstd" {
			return r, nil, malformed(full, "the only compressor here is zstd")
		}
		r.Compressor = repb.Compressor_ZSTD
		parts = parts[2:]
	default:
		return r, nil, malformed(full, "want blobs or compressed-blobs here, not "+strconv.Quote(clip(parts[0])))
	}
	r.Digest, rest, err = parseBlob(parts, full)
	return r, rest, err
}

// parseBlob parses [FUNCTION/]HASH/SIZE.
func parseBlob(parts []string, full string) (action.Digest, []string, error) {
	f := action.Function(0)
	if len(parts) > 0 {
		if named, err := action.ParseFunction(parts[0]); err == nil {
			f, parts = named, parts[1:]
		}
	}
	if len(parts) < 2 {
		return action.Digest{}, nil, malformed(full, "want HASH/SIZE at its end")
	}
	hash, size := parts[0], parts[1]
	n, err := strconv.ParseInt(size, 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != size {
		return action.Digest{}, nil, malformed(full, "the size is not a decimal number")
	}
	d, err := InferDigest(ToFunction(f), &repb.Digest{Hash: hash, SizeBytes: n})
	if err != nil {
		return action.Digest{}, nil, malformed(full, status.Convert(err).Message())
	}
	return d, parts[2:], nil
}

// BlobName is d as it is written in names of resources and in violations:
// blobs/[FUNCTION/]HASH/SIZE.
func BlobName(d action.Digest) string {
	var b strings.Builder
	b.WriteString("blobs/")
	switch d.Function() {
	case action.BLAKE3, action.SHA256Tree, action.GitSHA1:
		b.WriteString(d.Function().String() + "/")
	}
	b.WriteString(d.Hash() + "/" + strconv.FormatInt(d.Size(), 10))
	return b.String()
}

// logStreams is the keyword in the names of log streams.
const logStreams = "logstreams"

// InstanceOf is the instance in the name of any resource: a blob, an operation
// or a stream. A name without a keyword is that of an instance itself.
func InstanceOf(name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		if slices.Contains(keywords, p) || p == logStreams {
			return strings.Join(parts[:i], "/")
		}
	}
	return strings.TrimSuffix(name, "/")
}
