// Bench measures sbx-action beside its peers, interleaved, on this machine, and
// prints medians and ratios as a Markdown table:
//
//	make bench            everything
//	go run ./bench hit    only the rows whose name contains "hit"
//
// Every figure is of whole processes unless the row says "in one process". The
// machine's noise hits both sides alike, because they take turns; the ratio is
// the median of the ratios of neighbours.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A row is one comparison: ours against a peer, or a figure of its own.
type row struct {
	name   string
	target string // what we mean to reach, as text
	rounds int
	ours   side
	peer   side // no run: a figure without a peer
}

// A side is one thing that is measured. run does it once and returns how long
// the part that counts took.
type side struct {
	name string
	run  func() (time.Duration, error)
	peak *int64 // bytes that its processes took at most, where that was measured
}

func main() {
	step := flag.String("step", "", "used by the program itself: one step of the staging rows, in a process of its own")
	sizes := flag.String("sizes", "10,1000,10000,100000", "numbers of inputs for the staging rows")
	flag.Parse()
	if *step != "" {
		if err := runStep(*step); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	if err := run(flag.Args(), *sizes); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(wanted []string, sizes string) error {
	dir, err := os.MkdirTemp("", "sbx-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	b, err := newBench(dir)
	if err != nil {
		return err
	}
	defer func() {
		for _, end := range b.after {
			end()
		}
	}()
	fmt.Println("| what | ours | ms | peer | ms | ratio | target | peak MiB |")
	fmt.Println("|---|---|---|---|---|---|---|---|")
	for _, group := range []func() ([]row, error){b.commandRows, b.warmRows, b.observeRows, b.backendRows, func() ([]row, error) { return b.stagingRows(sizes) }} {
		rows, err := group()
		if err != nil {
			return err
		}
		for _, r := range rows {
			if !selected(r.name, wanted) {
				continue
			}
			if err := measure(r); err != nil {
				return fmt.Errorf("%s: %w", r.name, err)
			}
		}
	}
	return nil
}

func selected(name string, wanted []string) bool {
	return len(wanted) == 0 || slices.ContainsFunc(wanted, func(w string) bool { return strings.Contains(name, w) })
}

// measure runs both sides in turn and prints the row.
func measure(r row) error {
	var ours, peer, ratios []float64
	warm := 3 // rounds that are not counted: the caches fill, and learn what they may trust
	if r.rounds == 1 {
		warm = 0
	}
	for i := range r.rounds + warm {
		a, err := r.ours.run()
		if err != nil {
			return fmt.Errorf("%s: %w", r.ours.name, err)
		}
		var p time.Duration
		if r.peer.run != nil {
			if p, err = r.peer.run(); err != nil {
				return fmt.Errorf("%s: %w", r.peer.name, err)
			}
		}
		if i < warm {
			continue
		}
		ours = append(ours, ms(a))
		if r.peer.run != nil {
			peer = append(peer, ms(p))
			ratios = append(ratios, ms(a)/ms(p))
		}
	}
	peak := ""
	if r.ours.peak != nil {
		peak = fmt.Sprintf("%.1f", float64(*r.ours.peak)/(1<<20))
	}
	if len(peer) == 0 {
		fmt.Printf("| %s | %s | %.2f | | | | %s | %s |\n", r.name, r.ours.name, median(ours), r.target, peak)
		return nil
	}
	fmt.Printf("| %s | %s | %.2f | %s | %.2f | **%.2f** | %s | %s |\n",
		r.name, r.ours.name, median(ours), r.peer.name, median(peer), median(ratios), r.target, peak)
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func median(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}

// A bench has a directory of its own and the program under test.
type bench struct {
	dir, sbx string
	after    []func() // ends what was started
}

func newBench(dir string) (*bench, error) {
	sbx, err := filepath.Abs("bin/sbx-action")
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(sbx); err != nil {
		return nil, fmt.Errorf("%s is missing: run 'make build' at the top of the checkout first", sbx)
	}
	return &bench{dir: dir, sbx: sbx}, nil
}

// timed returns how long a process takes from start to end.
func timed(cmd *exec.Cmd) (time.Duration, error) {
	start := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(start)
	if err != nil {
		return 0, fmt.Errorf("%v: %w\n%s", cmd.Args, err, out)
	}
	return took, nil
}

// process measures whole processes.
func process(name string, command func() *exec.Cmd) side {
	return side{name: name, run: func() (time.Duration, error) { return timed(command()) }}
}
