package remotetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	rexec "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	bytestream "google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi/squeeze"
)

// Zstd returns data as zstd.
func Zstd(data []byte) []byte {
	var b bytes.Buffer
	if _, err := squeeze.Copy(&b, bytes.NewReader(data)); err != nil {
		panic(err) // memory takes everything
	}
	return b.Bytes()
}

// squeeze returns data as it is sent as zstd.
func (s *Server) squeeze(data []byte) []byte {
	if s.Squeeze != nil {
		return s.Squeeze(data)
	}
	return Zstd(data)
}

// squeezed says whether a resource name is of a blob as zstd, and returns the
// name of the blob itself.
func (s *Server) squeezed(name string) (bool, string, error) {
	before, after, ok := strings.Cut(name, "compressed-blobs/zstd/")
	if !ok {
		return false, name, nil
	}
	if !slices.Contains(s.Compressors, rexec.Compressor_ZSTD) {
		return true, name, status.Error(codes.InvalidArgument, "no compressor is known here")
	}
	return true, before + "blobs/" + after, nil
}

// resource reads the end of a resource name.
func resource(name string, upload bool) (action.Digest, error) {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		if p != "blobs" {
			continue
		}
		if upload && (i < 2 || parts[i-2] != "uploads" || len(parts[i-1]) != 36) {
			break
		}
		rest := parts[i+1:]
		f := action.SHA256
		if len(rest) == 3 && rest[0] == "blake3" {
			f, rest = action.BLAKE3, rest[1:]
		}
		if len(rest) != 2 {
			break
		}
		n, err := strconv.ParseInt(rest[1], 10, 64)
		if err != nil {
			break
		}
		return action.ParseHash(f, rest[0], n)
	}
	return action.Digest{}, status.Errorf(codes.InvalidArgument, "resource name %q", name)
}

// Read implements ByteStream.
func (s *Server) Read(req *bytestream.ReadRequest, stream bytestream.ByteStream_ReadServer) error {
	zstd, name, err := s.squeezed(req.ResourceName)
	if err != nil {
		return err
	}
	d, err := resource(name, false)
	if err != nil {
		return err
	}
	data, ok := s.Blob(d)
	if !ok {
		return status.Error(codes.NotFound, "not there")
	}
	if req.ReadOffset > int64(len(data)) {
		return status.Error(codes.OutOfRange, "offset")
	}
	s.read(d)
	at := req.ReadOffset
	if zstd {
		data, at = s.squeeze(data[at:]), 0
	}
	for at < int64(len(data)) {
		if s.CutRead != nil && s.CutRead(req.ResourceName, at) {
			return status.Error(codes.Unavailable, "injected")
		}
		n := min(64<<10, int64(len(data))-at)
		if err := stream.Send(&bytestream.ReadResponse{Data: data[at : at+n]}); err != nil {
			return err
		}
		at += n
	}
	return nil
}

// Write implements ByteStream.
func (s *Server) Write(stream bytestream.ByteStream_WriteServer) error {
	req, err := stream.Recv()
	if err != nil {
		return err
	}
	name := req.ResourceName
	zstd, plainName, err := s.squeezed(name)
	if err != nil {
		return err
	}
	d, err := resource(plainName, true)
	if err != nil {
		return err
	}
	if _, ok := s.Blob(d); ok {
		if zstd {
			return stream.SendAndClose(&bytestream.WriteResponse{CommittedSize: -1})
		}
		return stream.SendAndClose(&bytestream.WriteResponse{CommittedSize: d.Size()})
	}
	s.mu.Lock()
	have := append([]byte(nil), s.parts[name]...)
	s.mu.Unlock()
	if s.NoResume && req.WriteOffset > 0 {
		return status.Error(codes.InvalidArgument, "write_offset is not supported")
	}
	if req.WriteOffset > int64(len(have)) {
		return status.Errorf(codes.InvalidArgument, "offset %d, but %d bytes are here", req.WriteOffset, len(have))
	}
	have = have[:req.WriteOffset]
	first, shift := have, int64(0)
	if zstd { // have are the frames of this stream
		first, shift, have = have, req.WriteOffset, nil
	}
	have, err = s.receive(stream, req, have, shift)
	s.keep(name, first, have, zstd)
	if err != nil {
		return err
	}
	whole, size := have, d.Size()
	if zstd {
		data, err := expand(have)
		if err != nil {
			return status.Errorf(codes.InvalidArgument, "not zstd: %v", err)
		}
		whole, size = append(slices.Clone(first), data...), shift+int64(len(have))
	}
	if err := s.store(d, whole); err != nil {
		return err
	}
	return stream.SendAndClose(&bytestream.WriteResponse{CommittedSize: size})
}

// receive takes what comes from the request on, behind what is here, which is shift less
// than the client counts.
func (s *Server) receive(stream bytestream.ByteStream_WriteServer, req *bytestream.WriteRequest, have []byte, shift int64) ([]byte, error) {
	name := req.ResourceName
	for {
		if req.WriteOffset != shift+int64(len(have)) {
			return have, status.Errorf(codes.InvalidArgument, "offset %d after %d bytes", req.WriteOffset, len(have))
		}
		have = append(have, req.Data...)
		s.mu.Lock()
		s.counts.Bytes += int64(len(req.Data))
		s.mu.Unlock()
		if req.FinishWrite {
			return have, nil
		}
		if s.CutWrite != nil && s.CutWrite(name, int64(len(have))) {
			return have, status.Error(codes.Unavailable, "injected")
		}
		var err error
		if req, err = stream.Recv(); err != nil {
			if errors.Is(err, io.EOF) {
				err = status.Error(codes.InvalidArgument, "no finish_write")
			}
			return have, err
		}
	}
}

// keep keeps what came of an upload, for when it is gone on with: of frames what is in
// them, behind the first.
func (s *Server) keep(name string, first, have []byte, zstd bool) {
	if zstd {
		some, _ := expand(have)
		have = append(slices.Clone(first), some...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parts[name] = have
}

// expand returns what frames are made of, as far as they are good.
func expand(frames []byte) ([]byte, error) {
	r, err := squeeze.NewReader(bytes.NewReader(frames))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// QueryWriteStatus implements ByteStream.
func (s *Server) QueryWriteStatus(_ context.Context, req *bytestream.QueryWriteStatusRequest) (*bytestream.QueryWriteStatusResponse, error) {
	if s.NoResume {
		return nil, status.Error(codes.Unimplemented, "not here")
	}
	_, name, err := s.squeezed(req.ResourceName)
	if err != nil {
		return nil, err
	}
	d, err := resource(name, true)
	if err != nil {
		return nil, err
	}
	if _, ok := s.Blob(d); ok {
		return &bytestream.QueryWriteStatusResponse{CommittedSize: d.Size(), Complete: true}, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	part, ok := s.parts[req.ResourceName]
	if !ok {
		return nil, status.Error(codes.NotFound, "no such upload")
	}
	return &bytestream.QueryWriteStatusResponse{CommittedSize: int64(len(part))}, nil
}
