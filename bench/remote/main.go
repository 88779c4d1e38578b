// Remote measures servers of the Remote Execution API: ours, which it builds
// and starts, and any whose address is given.
//
//	go run ./bench/remote
//	go run ./bench/remote -only 'batch|find' -seconds 1 grpc://127.0.0.1:9092
//
// Each row is a loop of so many seconds; what is shown is the rate, the median
// and the 99th percentile of one call, and for our own server the CPU time that
// it took for each, with that of its children: on a busy machine that is the
// figure to compare.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

func main() {
	only := flag.String("only", "", "`REGEXP` of the rows to measure")
	seconds := flag.Float64("seconds", 2, "how long each row takes")
	jobs := flag.Int("jobs", runtime.NumCPU(), "how many actions our server runs at a time")
	program := flag.String("server", "", "`FILE` of sbx-actiond (default: it is built)")
	flag.Parse()
	if err := run(*only, *seconds, *jobs, *program, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "bench/remote:", err)
		os.Exit(1)
	}
}

// A target is a server.
type target struct {
	name string
	conn *grpc.ClientConn
	pid  int // 0: not ours
}

func run(only string, seconds float64, jobs int, program string, addresses []string) error {
	want, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "sbx-bench-remote-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	own, stop, err := startOwn(dir, jobs, program)
	if err != nil {
		return err
	}
	defer stop()
	targets := []*target{own}
	for _, a := range addresses {
		conn, err := dial(strings.TrimPrefix(a, "grpc://"))
		if err != nil {
			return err
		}
		defer conn.Close()
		targets = append(targets, &target{name: a, conn: conn})
	}
	fmt.Printf("%-44s %-24s %12s %10s %10s %12s\n", "row", "server", "rate", "median", "p99", "CPU each")
	for _, r := range rows() {
		if !want.MatchString(r.name) {
			continue
		}
		for _, t := range targets { // beside each other
			if err := r.measure(t, time.Duration(seconds*float64(time.Second))); err != nil {
				fmt.Printf("%-44s %-24s %v\n", r.name, t.name, err)
			}
		}
	}
	return nil
}

func dial(address string) (*grpc.ClientConn, error) {
	return grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)), grpc.WithInitialWindowSize(1<<20), grpc.WithInitialConnWindowSize(4<<20))
}

// startOwn starts our server with an empty store.
func startOwn(dir string, jobs int, program string) (*target, func(), error) {
	if program == "" {
		program = filepath.Join(dir, "sbx-actiond")
		build := exec.Command("go", "build", "-o", program, "./cmd/sbx-actiond")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return nil, nil, fmt.Errorf("%w\n%s", err, out)
		}
	}
	cmd := exec.Command(program, "serve", "--listen", "127.0.0.1:0", "--cache", filepath.Join(dir, "cache"), "--jobs", strconv.Itoa(jobs), "--abandon", "1m")
	log, err := cmd.StderrPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	stop := func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	}
	found := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(log)
		for lines.Scan() {
			if _, rest, ok := strings.Cut(lines.Text(), "msg=serving address="); ok {
				address, _, _ := strings.Cut(rest, " ")
				found <- address
			} else if !strings.Contains(lines.Text(), "msg=stopped") {
				fmt.Fprintln(os.Stderr, lines.Text())
			}
		}
		close(found)
	}()
	address, ok := <-found
	if !ok {
		stop()
		return nil, nil, errors.New("our server did not start")
	}
	conn, err := dial(address)
	if err != nil {
		stop()
		return nil, nil, err
	}
	return &target{"sbx-action", conn, cmd.Process.Pid}, func() { conn.Close(); stop() }, nil
}

// A row is one thing that is measured.
type row struct {
	name    string
	clients int
	unit    string
	each    float64 // units in one call
	prepare func(ctx context.Context, t *target) (call, error)
}

// A call makes what is to be sent, and returns what sends it, which is what is
// measured; n is different for each.
type call func(n int64) func(ctx context.Context) error

var serial atomic.Int64

// measure calls for a while from several goroutines, and prints what it took.
func (r *row) measure(t *target, long time.Duration) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	do, err := r.prepare(ctx, t)
	if err != nil {
		return err
	}
	for range 2 * r.clients { // warm
		if err := do(serial.Add(1))(ctx); err != nil {
			return err
		}
	}
	var mu sync.Mutex
	var all []time.Duration
	var failed error
	before, began := cpu(t.pid), time.Now()
	var clients sync.WaitGroup
	for range r.clients {
		clients.Go(func() {
			var mine []time.Duration
			var err error
			for time.Since(began) < long && err == nil {
				send := do(serial.Add(1))
				at := time.Now()
				err = send(ctx)
				mine = append(mine, time.Since(at))
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, mine...)
			failed = errors.Join(failed, err)
		})
	}
	clients.Wait()
	used := cpu(t.pid) - before
	if failed != nil {
		return failed
	}
	slices.Sort(all)
	var sum time.Duration
	for _, d := range all {
		sum += d
	}
	took := sum.Seconds() / float64(r.clients) // without the time to make what is sent
	each := "-"
	if t.pid != 0 {
		each = fmt.Sprintf("%.3f ms", used.Seconds()*1000/(float64(len(all))*r.perCPU()))
	}
	fmt.Printf("%-44s %-24s %12s %10s %10s %12s\n", r.name, t.name, r.rate(float64(len(all))*r.each/took),
		ms(all[len(all)/2]), ms(all[len(all)*99/100]), each)
	return nil
}

// perCPU is by what CPU time is divided: blobs and digests, but not bytes.
func (r *row) perCPU() float64 {
	if r.unit == "MB/s" {
		return 1
	}
	return r.each
}

func (r *row) rate(v float64) string {
	switch {
	case v >= 100_000:
		return fmt.Sprintf("%.0fk %s", v/1000, r.unit)
	case v >= 100:
		return fmt.Sprintf("%.0f %s", v, r.unit)
	}
	return fmt.Sprintf("%.1f %s", v, r.unit)
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", d.Seconds()*1000) }

// cpu is the CPU time of a process and the children that it has waited for.
func cpu(pid int) time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	var ticks int64
	for _, f := range fields[11:15] {
		n, _ := strconv.ParseInt(f, 10, 64)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
