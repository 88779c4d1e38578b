// Remote measures servers of the Remote Execution API: ours, which it builds
// and starts, and any whose address is given.
//
//	go run ./bench/remote
//	go run ./bench/remote -fill 1000000
//	go run ./bench/remote -large 10737418240
//	go run ./bench/remote -only 'batch|find' -seconds 1 grpc://127.0.0.1:9092#4711
//
// Each row is a loop of so many seconds; what is shown is the rate, the median
// and the 99th percentile of one call, and, for our own server and for those whose
// processes are named behind a # (several with commas between them), the CPU time
// that they and all their children took for each: on a busy machine that is the
// figure to compare. With -rounds, servers take turns that often, and the round
// with the best rate is shown.
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
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

func main() {
	only := flag.String("only", "", "`REGEXP` of the rows to measure")
	seconds := flag.Float64("seconds", 2, "how long each row takes")
	rounds := flag.Int("rounds", 1, "how often each row is measured")
	jobs := flag.Int("jobs", runtime.NumCPU(), "how many actions our server runs at a time")
	count := flag.Int("fill", 0, "store `N` small blobs in our server, and measure nothing else")
	size := flag.Int64("large", 0, "send a blob of so many `BYTES` there and back, and measure nothing else")
	program := flag.String("server", "", "`FILE` of sbx-actiond (default: it is built)")
	flag.Parse()
	var err error
	switch {
	case *count > 0:
		err = withDir(func(dir string) error { return fill(dir, *count, *jobs, *program) })
	case *size > 0:
		err = withDir(func(dir string) error { return large(dir, *size, *jobs, *program) })
	default:
		err = run(*only, *seconds, *rounds, *jobs, *program, flag.Args())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/remote:", err)
		os.Exit(1)
	}
}

// withDir calls f with a directory that is removed then.
func withDir(f func(dir string) error) error {
	dir, err := os.MkdirTemp("", "sbx-bench-remote-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	return f(dir)
}

// A target is a server.
type target struct {
	name string
	conn *grpc.ClientConn
	pids []int // none: its CPU time is not known
}

func run(only string, seconds float64, rounds, jobs int, program string, addresses []string) error {
	want, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "sbx-bench-remote-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	own, stop, err := startOwn(dir, filepath.Join(dir, "cache"), jobs, program)
	if err != nil {
		return err
	}
	defer stop()
	targets := []*target{own}
	for _, a := range addresses {
		t, err := parseTarget(a)
		if err != nil {
			return err
		}
		defer t.conn.Close()
		targets = append(targets, t)
	}
	fmt.Printf("%-44s %-24s %12s %10s %10s %12s\n", "row", "server", "rate", "median", "p99", "CPU each")
	for _, r := range rows() {
		if !want.MatchString(r.name) {
			continue
		}
		best := make([]*figures, len(targets))
		for range rounds {
			for i, t := range targets { // beside each other
				f, err := r.measure(t, time.Duration(seconds*float64(time.Second)))
				if err != nil {
					f = &figures{err: err}
				}
				if best[i] == nil || best[i].err != nil || f.err == nil && f.rate > best[i].rate {
					best[i] = f
				}
			}
		}
		for i, t := range targets {
			best[i].print(&r, t)
		}
	}
	return nil
}

// parseTarget parses [grpc://]HOST:PORT[#PID,PID…] and connects to it.
func parseTarget(text string) (*target, error) {
	address, list, _ := strings.Cut(strings.TrimPrefix(text, "grpc://"), "#")
	t := &target{name: address}
	for word := range strings.SplitSeq(list, ",") {
		if word == "" {
			continue
		}
		pid, err := strconv.Atoi(word)
		if err != nil {
			return nil, fmt.Errorf("%s: %q is no process", text, word)
		}
		t.pids = append(t.pids, pid)
	}
	var err error
	t.conn, err = dial(address)
	return t, err
}

// figures are what a row was measured to be.
type figures struct {
	err         error
	rate        float64
	median, p99 time.Duration
	cpu         float64 // ms; 0: not known
}

func (f *figures) print(r *row, t *target) {
	if f.err != nil {
		fmt.Printf("%-44s %-24s %v\n", r.name, t.name, f.err)
		return
	}
	each := "-"
	if len(t.pids) > 0 {
		each = fmt.Sprintf("%.3f ms", f.cpu)
	}
	fmt.Printf("%-44s %-24s %12s %10s %10s %12s\n", r.name, t.name, r.show(f.rate), ms(f.median), ms(f.p99), each)
}

func dial(address string) (*grpc.ClientConn, error) {
	return grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)), grpc.WithInitialWindowSize(1<<20), grpc.WithInitialConnWindowSize(4<<20))
}

// startOwn starts our server with a store. Where no program is given, it is built
// in dir, once.
func startOwn(dir, store string, jobs int, program string) (*target, func(), error) {
	built := filepath.Join(dir, "sbx-actiond")
	if _, err := os.Stat(built); program == "" && err == nil {
		program = built
	}
	if program == "" {
		program = built
		build := exec.Command("go", "build", "-o", program, "./cmd/sbx-actiond")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return nil, nil, fmt.Errorf("%w\n%s", err, out)
		}
	}
	cmd := exec.Command(program, "serve", "--listen", "127.0.0.1:0", "--cache", store, "--jobs", strconv.Itoa(jobs), "--abandon", "1m")
	log, err := cmd.StderrPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	stop := func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // SIGINT is ignored by what a script started in the background
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
	return &target{"sbx-action", conn, []int{cmd.Process.Pid}}, func() { conn.Close(); stop() }, nil
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

// measure calls for a while from several goroutines.
func (r *row) measure(t *target, long time.Duration) (*figures, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	do, err := r.prepare(ctx, t)
	if err != nil {
		return nil, err
	}
	for range 2 * r.clients { // warm
		if err := do(serial.Add(1))(ctx); err != nil {
			return nil, err
		}
	}
	var mu sync.Mutex
	var all []time.Duration
	var failed error
	before, began := cpu(t.pids), time.Now()
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
	used := cpu(t.pids) - before
	if failed != nil {
		return nil, failed
	}
	slices.Sort(all)
	var sum time.Duration
	for _, d := range all {
		sum += d
	}
	took := sum.Seconds() / float64(r.clients) // without the time to make what is sent
	return &figures{
		rate: float64(len(all)) * r.each / took, median: all[len(all)/2], p99: all[len(all)*99/100],
		cpu: used.Seconds() * 1000 / (float64(len(all)) * r.perCPU()),
	}, nil
}

// perCPU is by what CPU time is divided: blobs and digests, but not bytes.
func (r *row) perCPU() float64 {
	if r.unit == "MB/s" {
		return 1
	}
	return r.each
}

func (r *row) show(v float64) string {
	switch {
	case v >= 100_000:
		return fmt.Sprintf("%.0fk %s", v/1000, r.unit)
	case v >= 100:
		return fmt.Sprintf("%.0f %s", v, r.unit)
	}
	return fmt.Sprintf("%.1f %s", v, r.unit)
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", d.Seconds()*1000) }

// cpu is the CPU time of processes, their children and theirs, and of those that
// they have waited for.
func cpu(pids []int) (sum time.Duration) {
	if len(pids) == 0 {
		return 0
	}
	children, used := map[int][]int{}, map[int]time.Duration{}
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			continue // it has ended
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
		parent, _ := strconv.Atoi(fields[1])
		children[parent] = append(children[parent], pid)
		for _, f := range fields[11:15] {
			ticks, _ := strconv.ParseInt(f, 10, 64)
			used[pid] += time.Duration(ticks) * 10 * time.Millisecond
		}
	}
	for list := slices.Clone(pids); len(list) > 0; list = list[1:] {
		sum += used[list[0]]
		list = append(list, children[list[0]]...)
	}
	return sum
}
