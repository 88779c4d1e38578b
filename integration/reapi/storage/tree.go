package storage

import (
	"context"
	"errors"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi"
)

// maxDirectory is the size of the largest Directory message that is looked at.
const maxDirectory = 64 << 20

// GetTree implements the RPC. Directories come parents first, each once; those
// that are not in the store are left out. A page token is the digest of the
// directory that comes next, so it stays right whatever is added meanwhile.
func (s *Server) GetTree(req *repb.GetTreeRequest, stream grpc.ServerStreamingServer[repb.GetTreeResponse]) error {
	ctx := stream.Context()
	root, err := reapi.InferDigest(req.DigestFunction, req.RootDigest)
	if err != nil {
		return err
	}
	if req.PageSize < 0 {
		return status.Errorf(codes.InvalidArgument, "page_size %d is negative", req.PageSize)
	}
	from := root
	if req.PageToken != "" {
		if from, err = action.ParseDigest(req.PageToken); err != nil || from.Function() != root.Function() {
			return status.Errorf(codes.InvalidArgument, "page_token %q is none that this server gave", req.PageToken)
		}
	}
	p := &pages{stream: stream, size: int(req.PageSize), max: s.opts.MaxBatch, skip: req.PageToken != ""}
	all := &remembered{s: s}
	defer all.forget()
	queue, seen := []action.Digest{root}, map[action.Digest]bool{root: true}
	for len(queue) > 0 {
		d := queue[0]
		queue = queue[1:]
		m, err := s.directory(ctx, d)
		if errors.Is(err, action.ErrMiss) && d != root {
			continue
		}
		if err != nil {
			return s.fail(ctx, "read a tree", err)
		}
		if d == from {
			p.skip = false
		}
		if err := p.add(d, m); err != nil {
			return err
		}
		for _, n := range m.Directories {
			below, err := reapi.Digest(root.Function(), n.Digest)
			if err != nil {
				return err
			}
			if seen[below] {
				continue
			}
			if err := all.add(1); err != nil {
				return err
			}
			seen[below] = true
			queue = append(queue, below)
		}
	}
	if p.skip {
		return status.Errorf(codes.InvalidArgument, "page_token %q is of no directory of this tree", req.PageToken)
	}
	return p.send("")
}

func (s *Server) directory(ctx context.Context, d action.Digest) (*repb.Directory, error) {
	if d.Size() > maxDirectory {
		return nil, status.Errorf(codes.InvalidArgument, "directory %v is larger than %d bytes", d, maxDirectory)
	}
	data, err := s.store.Read(ctx, d)
	if err != nil {
		return nil, err
	}
	m := new(repb.Directory)
	if err := proto.Unmarshal(data, m); err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "blob %v is no directory: %v", d, err)
	}
	return m, nil
}

// pages collects directories until a message is full.
type pages struct {
	stream grpc.ServerStreamingServer[repb.GetTreeResponse]
	size   int   // directories; 0: any number
	max    int64 // bytes
	skip   bool
	res    repb.GetTreeResponse
	bytes  int64
}

func (p *pages) add(d action.Digest, m *repb.Directory) error {
	if p.skip {
		return nil
	}
	n := int64(proto.Size(m)) + 8
	full := p.bytes+n > p.max || p.size > 0 && len(p.res.Directories) >= p.size
	if full && len(p.res.Directories) > 0 {
		if err := p.send(d.String()); err != nil {
			return err
		}
	}
	p.res.Directories = append(p.res.Directories, m)
	p.bytes += n
	return nil
}

func (p *pages) send(next string) error {
	p.res.NextPageToken = next
	err := p.stream.Send(&p.res)
	p.res, p.bytes = repb.GetTreeResponse{}, 0
	return err
}
