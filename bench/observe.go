package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/native"
)

// processorTime is what this process and the children that it has waited for have
// used of the processors.
func processorTime() time.Duration {
	var sum int64
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var ru syscall.Rusage
		if err := syscall.Getrusage(who, &ru); err == nil {
			sum += ru.Utime.Nano() + ru.Stime.Nano()
		}
	}
	return time.Duration(sum)
}

// observeRows measure what it costs to find out what a command looks up: in
// seconds of the processors, the start and the end of the sandbox included.
func (b *bench) observeRows() ([]row, error) {
	dir := filepath.Join(b.dir, "observed")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "tool.c"), []byte(sources[1].text), 0o644); err != nil {
		return nil, err
	}
	compile := []string{"gcc", "-O2", "-c", "tool.c", "-o", "/tmp/out.o"}
	env := []string{"PATH=" + os.Getenv("PATH")}
	spec := func(observe bool) *backends.Spec {
		s := &backends.Spec{Args: compile, Env: env, Dir: "/src", Observe: observe}
		for _, d := range [][2]string{{"/usr", "/usr"}, {"/etc", "/etc"}, {dir, "/src"}} {
			s.Root.Binds = append(s.Root.Binds, backends.Bind{Source: d[0], Target: d[1]})
		}
		s.Root.Fill = func(root *os.File) error {
			for _, l := range []string{"bin", "lib", "lib64"} {
				if err := unix.Symlinkat("usr/"+l, int(root.Fd()), l); err != nil {
					return err
				}
			}
			return nil
		}
		return s
	}
	inSandbox := func(name string, observe, noScribe bool) side {
		return side{name: name, run: func() (time.Duration, error) {
			start := processorTime()
			var backend backends.Backend // elsewhere Open has another type
			var err error
			backend, err = native.Open(native.Options{Once: true, NoScribe: noScribe})
			if err != nil {
				return 0, err
			}
			s := spec(observe)
			if w, ok := backend.(action.Warmer); ok {
				w.Warm(s)
			}
			status, err := backend.Run(context.Background(), s)
			if err == nil && status.Code != 0 {
				err = fmt.Errorf("exit %d: %w", status.Code, status.Start)
			}
			backend.Close()
			return processorTime() - start, err
		}}
	}
	bare := side{name: "gcc", run: func() (time.Duration, error) {
		start := processorTime()
		cmd := exec.Command(compile[0], compile[1:]...)
		cmd.Dir, cmd.Env = dir, env
		err := cmd.Run()
		return processorTime() - start, err
	}}
	return []row{
		{name: "CPU of a small compile, C, 11 includes, in a sandbox", rounds: 40, ours: inSandbox("native", false, false), peer: bare},
		{name: "CPU of the same, observed", rounds: 40, ours: inSandbox("native", true, false), peer: bare},
		{name: "CPU of the same, each look-up asking", rounds: 40, ours: inSandbox("native, NoScribe", true, true), peer: bare},
	}, nil
}
