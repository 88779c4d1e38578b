// Package remote is a client of servers of the Remote Execution API: of their
// blobs, results and sandboxes. Workers and the cache that users share are
// built on it.
//
// A [Client] promises that what it puts into a store has the digest that it
// was asked for, that it uploads nothing that it knows to be there, that
// interrupted transfers go on where they stopped if the server can do that, and
// that no call outlasts its context or hangs on a server that says nothing.
// With servers that know zstd it is spoken, in memory of a fixed size, and no
// blob becomes larger than its digest says. It does not promise that a server
// keeps what it took.
package remote

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	rexec "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	bytestream "google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/sbx-action/sbx-action/action"
)

// Options of a [Client]. The zero value speaks plainly and gives servers a
// minute for an answer.
type Options struct {
	TLS     *tls.Config       // for addresses that say grpcs; nil: the system's roots
	Headers map[string]string // sent with every call

	// Timeout bounds each call that only asks, Stall how long a transfer may
	// make no progress. Zero: a minute.
	Timeout, Stall time.Duration

	// Attempts is how often a call is made that fails for what may pass: the
	// server is not there, or overloaded. Zero: once.
	Attempts int

	// Sender distinguishes whose interrupted uploads are to be gone on with.
	// Two clients that may run at the same time must not have the same one.
	// Empty: uploads are gone on with for as long as the Client lives.
	Sender string

	// Version is what servers are told of our program.
	Version string
}

func (o Options) timeout() time.Duration { return orMinute(o.Timeout) }
func (o Options) stall() time.Duration   { return orMinute(o.Stall) }

func orMinute(d time.Duration) time.Duration {
	if d == 0 {
		return time.Minute
	}
	return d
}

// A Client speaks to one server. Its methods may be called by any number of
// goroutines.
type Client struct {
	*link
	instance string
}

// link is what the clients of all instances of a server share.
type link struct {
	addr    Address
	opts    Options
	conn    *grpc.ClientConn
	blobs   rexec.ContentAddressableStorageClient
	results rexec.ActionCacheClient
	execs   rexec.ExecutionClient
	streams bytestream.ByteStreamClient
	caps    rexec.CapabilitiesClient
	slots   chan struct{} // one for each transfer in flight
	now     func() time.Time

	mu      sync.Mutex
	present map[instanceDigest]time.Time // guarded by mu: known to be there since
	known   map[string]*asked            // guarded by mu: by instance
	flights map[flightKey]*flight        // guarded by mu
}

type instanceDigest struct {
	instance string
	digest   action.Digest
}

// transfers is how many batches and streams one client has in flight.
const transfers = 16

// maxMessage is the largest message that we take.
const maxMessage = 64 << 20

// Dial returns a client of the server at addr. It does not wait for it.
func Dial(addr Address, opts Options) (*Client, error) {
	creds := insecure.NewCredentials()
	if addr.TLS {
		creds = credentials.NewTLS(opts.TLS)
	}
	header, err := headers(opts)
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(addr.target(),
		grpc.WithTransportCredentials(creds),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
		// A scheduler may say nothing for minutes: so that we learn when it
		// is gone, or when something between us forgot the connection. Servers
		// that were not told otherwise take more than two pings in a call that
		// lasts two minutes, as a scheduler's may, for an attack.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: time.Minute, Timeout: 20 * time.Second}),
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, o ...grpc.CallOption) error {
			return invoke(metadata.AppendToOutgoingContext(ctx, header...), method, req, reply, cc, o...)
		}),
		grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, o ...grpc.CallOption) (grpc.ClientStream, error) {
			return open(metadata.AppendToOutgoingContext(ctx, header...), desc, cc, method, o...)
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("remote %v: %w", addr, err)
	}
	return &Client{
		instance: addr.Instance,
		link: &link{
			addr: addr, opts: opts, conn: conn,
			blobs: rexec.NewContentAddressableStorageClient(conn), results: rexec.NewActionCacheClient(conn),
			execs: rexec.NewExecutionClient(conn), streams: bytestream.NewByteStreamClient(conn),
			caps: rexec.NewCapabilitiesClient(conn), slots: make(chan struct{}, transfers), now: time.Now,
			present: map[instanceDigest]time.Time{}, known: map[string]*asked{}, flights: map[flightKey]*flight{},
		},
	}, nil
}

// headers is what every call carries, names and values in turn.
func headers(opts Options) ([]string, error) {
	tool, err := proto.Marshal(&rexec.RequestMetadata{
		ToolDetails: &rexec.ToolDetails{ToolName: "sbx-action", ToolVersion: opts.Version},
	})
	if err != nil {
		return nil, err
	}
	list := []string{"build.bazel.remote.execution.v2.requestmetadata-bin", string(tool)}
	for name, value := range opts.Headers {
		if strings.ContainsFunc(name+value, func(r rune) bool { return r < ' ' || r > '~' }) || name == "" {
			return nil, fmt.Errorf("header %q: neither its name nor its value may be empty or hold anything but printable ASCII", name)
		}
		list = append(list, strings.ToLower(name), value)
	}
	return list, nil
}

// Instance returns a client of another instance of the same server, over the
// same connection.
func (c *Client) Instance(name string) *Client { return &Client{c.link, name} }

// Conn is the connection, for services that are not of this package.
func (c *Client) Conn() *grpc.ClientConn { return c.conn }

// Address is the address that the client was made with.
func (c *Client) Address() Address { return c.addr }

// Close ends the connection and every call.
func (c *Client) Close() error { return c.conn.Close() }

// limits is what a server told of an instance.
type limits struct {
	batch     int64 // bytes of blobs in one batch
	single    int64 // bytes from which a blob is sent or fetched by itself; batch at most
	functions map[action.Function]bool
	update    bool // results may be put
	exec      bool

	zstd, zstdBatch bool // it takes and gives zstd: in streams, in batches
}

// batchMax is what fits into the 4 MiB that gRPC takes unless told otherwise,
// with room for digests.
const batchMax = 4<<20 - 64<<10

// singleMin is the size from which a blob goes by itself to a server that knows
// zstd, but not in batches.
const singleMin = 256 << 10

// ErrFunction is wrapped by errors about a digest function that the server
// does not have.
var ErrFunction = errors.New("the server does not have this digest function")

// asked is what became of a question for the limits of an instance.
type asked struct {
	done chan struct{}
	l    *limits // set before done is closed, as err
	err  error
	left bool // who asked did not want to wait any longer
}

// limits asks the server for what it can: once, also if many want to know.
func (c *Client) limits(ctx context.Context) (*limits, error) {
	for {
		c.mu.Lock()
		a := c.known[c.instance]
		if a == nil {
			a = &asked{done: make(chan struct{})}
			c.known[c.instance] = a
			c.mu.Unlock()
			return c.askLimits(ctx, a)
		}
		c.mu.Unlock()
		select {
		case <-a.done:
			if !a.left {
				return a.l, a.err
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// askLimits asks for a, which is forgotten where there is no answer.
func (c *Client) askLimits(ctx context.Context, a *asked) (*limits, error) {
	var caps *rexec.ServerCapabilities
	err := c.call(ctx, func(ctx context.Context) (err error) {
		caps, err = c.caps.GetCapabilities(ctx, &rexec.GetCapabilitiesRequest{InstanceName: c.instance})
		return err
	})
	if err != nil {
		a.err, a.left = fmt.Errorf("capabilities of %v: %w", c.addr, err), ctx.Err() != nil
		c.mu.Lock()
		if c.known[c.instance] == a {
			delete(c.known, c.instance)
		}
		c.mu.Unlock()
	} else {
		a.l = newLimits(caps)
	}
	close(a.done)
	return a.l, a.err
}

// forget makes the client ask again what the server can: it is not what it was.
func (c *Client) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.known, c.instance)
}

func newLimits(caps *rexec.ServerCapabilities) *limits {
	l := &limits{batch: batchMax, functions: map[action.Function]bool{}}
	cache := caps.GetCacheCapabilities()
	if n := cache.GetMaxBatchTotalSizeBytes(); n > 0 && n < batchMax {
		l.batch = n
	}
	for _, f := range cache.GetDigestFunctions() {
		l.functions[action.Function(f)] = true
	}
	l.update = cache.GetActionCacheUpdateCapabilities().GetUpdateEnabled()
	l.exec = caps.GetExecutionCapabilities().GetExecEnabled()
	l.zstd = slices.Contains(cache.GetSupportedCompressors(), rexec.Compressor_ZSTD)
	l.zstdBatch = slices.Contains(cache.GetSupportedBatchUpdateCompressors(), rexec.Compressor_ZSTD)
	l.single = l.batch
	if l.zstd && !l.zstdBatch {
		l.single = min(l.batch, singleMin)
	}
	return l
}

// Check says why results with digests of f cannot be shared with the server,
// or executed there, or nil.
func (c *Client) Check(ctx context.Context, f action.Function) error {
	l, err := c.limits(ctx)
	if err != nil {
		return err
	}
	if len(l.functions) > 0 && !l.functions[f] {
		return fmt.Errorf("%v has no %v digests: %w", c.addr, f, ErrFunction)
	}
	return nil
}

// Writable says whether the server lets us put results.
func (c *Client) Writable(ctx context.Context) (bool, error) {
	l, err := c.limits(ctx)
	return err == nil && l.update, err
}

// Executes says whether the server executes actions.
func (c *Client) Executes(ctx context.Context) (bool, error) {
	l, err := c.limits(ctx)
	return err == nil && l.exec, err
}

// uploadID is the UUID of an upload of d: the same each time, so that it can be
// gone on with.
func (c *Client) uploadID(d action.Digest, try int) string {
	sender := c.opts.Sender
	if sender == "" {
		sender = fmt.Sprintf("%p", c.link)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %v %d", sender, c.instance, d, try))
	sum[6], sum[8] = sum[6]&0x0f|0x40, sum[8]&0x3f|0x80
	h := hex.EncodeToString(sum[:16])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
