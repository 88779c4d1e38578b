package metrics

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestRPCs(t *testing.T) {
	var r RPCs
	for _, err := range []error{nil, nil, status.Error(codes.NotFound, "no")} {
		_, _ = r.Unary(context.Background(), nil, &grpc.UnaryServerInfo{FullMethod: "/a.B/C"}, func(context.Context, any) (any, error) { return nil, err })
	}
	_ = r.Stream(nil, nil, &grpc.StreamServerInfo{FullMethod: "/a.B/S"}, func(any, grpc.ServerStream) error { return nil })
	var b bytes.Buffer
	r.Write(&b)
	for _, want := range []string{
		`grpc_server_started_total{grpc_type="unary",grpc_service="a.B",grpc_method="C"} 3`,
		`grpc_server_handled_total{grpc_type="unary",grpc_service="a.B",grpc_method="C",grpc_code="OK"} 2`,
		`grpc_server_handled_total{grpc_type="unary",grpc_service="a.B",grpc_method="C",grpc_code="NotFound"} 1`,
		`grpc_server_handled_total{grpc_type="server_stream",grpc_service="a.B",grpc_method="S",grpc_code="OK"} 1`,
		`grpc_server_handling_seconds_count{grpc_type="unary",grpc_service="a.B",grpc_method="C"} 3`,
		"# TYPE grpc_server_handling_seconds histogram",
	} {
		if !strings.Contains(b.String(), want+"\n") {
			t.Errorf("there is no %s in\n%s", want, b.String())
		}
	}
}

func TestHistogram(t *testing.T) {
	var h Histogram
	for _, d := range []time.Duration{0, time.Millisecond, 2 * time.Millisecond, time.Hour} {
		h.Observe(d)
	}
	var b bytes.Buffer
	Durations(&b, "x", "help", &h)
	for _, want := range []string{`x_bucket{le="0.0005"} 1`, `x_bucket{le="0.001"} 2`, `x_bucket{le="0.005"} 3`, `x_bucket{le="1800"} 3`, `x_bucket{le="+Inf"} 4`, "x_count{} 4", "x_sum{} 3600.003"} {
		if !strings.Contains(b.String(), want+"\n") {
			t.Errorf("there is no %s in\n%s", want, b.String())
		}
	}
}
