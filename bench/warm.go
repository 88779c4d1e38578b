package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/native"
)

// trueSource is the cheapest program there is: what is measured is the sandbox.
const trueSource = `void _start(void) {
#if defined __x86_64__
	__asm__ volatile("mov $60, %eax; xor %edi, %edi; syscall");
#else
	__asm__ volatile("mov x8, #93; mov x0, #0; svc 0");
#endif
}`

// staticTrue compiles it.
func (b *bench) staticTrue() (string, error) {
	dir := filepath.Join(b.dir, "true")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	source, program := filepath.Join(dir, "true.c"), filepath.Join(dir, "true")
	if err := os.WriteFile(source, []byte(trueSource), 0o644); err != nil {
		return "", err
	}
	_, err := timed(exec.Command("gcc", "-static", "-nostdlib", "-o", program, source))
	return program, err
}

// warmRows measure the sandbox alone, in one process.
func (b *bench) warmRows() ([]row, error) {
	program, err := b.staticTrue()
	if err != nil {
		return nil, err
	}
	backend, err := native.Open(native.Options{})
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(program)
	spec := &backends.Spec{
		Root: backends.Root{Binds: []backends.Bind{{Source: dir, Target: "/bin"}, {Source: "/usr", Target: "/usr"}}},
		Args: []string{"/bin/true"}, Dir: "/",
	}
	warm := side{name: "native", run: func() (time.Duration, error) {
		start := time.Now()
		status, err := backend.Run(context.Background(), spec)
		took := time.Since(start)
		if err == nil && status.Code != 0 {
			err = fmt.Errorf("exit %d: %w", status.Code, status.Start)
		}
		return took, err
	}}
	bwrap := side{name: "bwrap", run: func() (time.Duration, error) {
		return timed(exec.Command("bwrap", "--unshare-all", "--ro-bind", dir, "/bin", "--ro-bind", "/usr", "/usr",
			"--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "/bin/true"))
	}}
	bare := side{name: "fork+exec", run: func() (time.Duration, error) {
		start := time.Now()
		pid, err := syscall.ForkExec(program, []string{"true"}, &syscall.ProcAttr{Files: []uintptr{0, 1, 2}})
		if err == nil {
			_, err = syscall.Wait4(pid, nil, 0, nil)
		}
		return time.Since(start), err
	}}
	who := "as " + map[bool]string{true: "root", false: "a user"}[os.Geteuid() == 0]
	return []row{
		{name: "sandbox of a static true, warm, in one process, " + who, target: "≤ 0.10", rounds: 300, ours: warm, peer: bwrap},
		{name: "the same against a bare process", target: "≤ 3", rounds: 300, ours: warm, peer: bare},
		{name: "1,000 of them, two at a time", rounds: 3, ours: side{name: "native", run: func() (time.Duration, error) {
			return many(1000, warm.run)
		}}, peer: side{name: "bwrap", run: func() (time.Duration, error) { return many(1000, bwrap.run) }}},
	}, nil
}

// many runs f n times, as many at a time as there are processors.
func many(n int, f func() (time.Duration, error)) (time.Duration, error) {
	workers := runtime.NumCPU()
	errs := make(chan error, workers)
	start := time.Now()
	for w := range workers {
		go func() {
			for i := w; i < n; i += workers {
				if _, err := f(); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	var first error
	for range workers {
		if err := <-errs; err != nil {
			first = err
		}
	}
	return time.Since(start), first
}
