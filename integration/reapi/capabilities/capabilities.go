// Package capabilities says to clients what a server can do: no more, because
// they will do it, and no less.
package capabilities

import (
	"context"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"github.com/bazelbuild/remote-apis/build/bazel/semver"
	"google.golang.org/grpc"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi"
)

// An Instance is what a client can do in one instance.
type Instance struct {
	Execute       bool  // run actions
	UpdateResults bool  // write the action cache
	MaxBatch      int64 // bytes of one batch
	MaxBlob       int64 // bytes of one blob; 0: any
	Chunking      *repb.FastCdc2020Params
}

// A Server answers GetCapabilities.
type Server struct {
	repb.UnimplementedCapabilitiesServer

	// Instance is asked with the context of the request, which may say who the
	// client is. Its error is a status.
	Instance func(ctx context.Context, name string) (Instance, error)

	CacheFunctions []action.Function
	RunFunctions   []action.Function
	NodeProperties []string
}

// Register makes srv serve s.
func (s *Server) Register(srv *grpc.Server) { repb.RegisterCapabilitiesServer(srv, s) }

// Old clients refuse a server that begins later than they end: Bazel before 5,
// and Please, want 2.0. What it took to honour 2.0 is little.
var (
	low  = &semver.SemVer{Major: 2, Minor: 0}
	high = &semver.SemVer{Major: 2, Minor: 13}
)

// GetCapabilities implements the RPC.
func (s *Server) GetCapabilities(ctx context.Context, req *repb.GetCapabilitiesRequest) (*repb.ServerCapabilities, error) {
	if err := reapi.CheckInstance(req.InstanceName); err != nil {
		return nil, err
	}
	in, err := s.Instance(ctx, req.InstanceName)
	if err != nil {
		return nil, err
	}
	zstd := []repb.Compressor_Value{repb.Compressor_ZSTD}
	priorities := &repb.PriorityCapabilities{Priorities: []*repb.PriorityCapabilities_PriorityRange{
		{MinPriority: -1 << 31, MaxPriority: 1<<31 - 1},
	}}
	res := &repb.ServerCapabilities{
		CacheCapabilities: &repb.CacheCapabilities{
			DigestFunctions:                 functions(s.CacheFunctions),
			ActionCacheUpdateCapabilities:   &repb.ActionCacheUpdateCapabilities{UpdateEnabled: in.UpdateResults},
			MaxBatchTotalSizeBytes:          in.MaxBatch,
			MaxCasBlobSizeBytes:             in.MaxBlob,
			SymlinkAbsolutePathStrategy:     repb.SymlinkAbsolutePathStrategy_ALLOWED,
			SupportedCompressors:            zstd,
			SupportedBatchUpdateCompressors: zstd,
		},
		LowApiVersion: low, HighApiVersion: high, DeprecatedApiVersion: low,
	}
	if in.Chunking != nil {
		res.CacheCapabilities.SplitBlobSupport = true
		res.CacheCapabilities.SpliceBlobSupport = true
		res.CacheCapabilities.FastCdc_2020Params = in.Chunking
	}
	if in.Execute {
		res.ExecutionCapabilities = &repb.ExecutionCapabilities{
			DigestFunction: repb.DigestFunction_SHA256, ExecEnabled: true, ExecutionPriorityCapabilities: priorities,
			SupportedNodeProperties: s.NodeProperties, DigestFunctions: functions(s.RunFunctions),
		}
	}
	return res, nil
}

func functions(list []action.Function) (all []repb.DigestFunction_Value) {
	for _, f := range list {
		all = append(all, reapi.ToFunction(f))
	}
	return all
}
