// Package docker is the backend that has its sandboxes made by Docker's daemon.
// Package foreign says what is promised, and how.
//
// The daemon sees nothing of what our helper mounts, and takes no descriptors. So
// its containers have an image with our init and nothing else, which is made once,
// and stays in the daemon's storage; and the init connects to us, on this machine,
// and takes over the root of the command as a tree of mounts. The containers begin
// in the host's network for that, and the init leaves it before it runs anything.
// Containers are removed by the daemon when they end, and they end with us.
//
// It works for root only: who may use the daemon is root on this machine in all
// but name, and the root of another user's namespace is not for the daemon.
package docker

import (
	"archive/tar"
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/backends/foreign"
)

// Options are the options of [Open]. The zero value is fine.
type Options struct {
	// Program is the path of docker. Empty: it is looked up in $PATH.
	Program string

	// Host is where the daemon listens, as in DOCKER_HOST. Empty: in the usual place.
	Host string
}

// Open returns the backend. It does not fail where docker is missing, or its
// daemon does not run: Capabilities says so, and Run.
func Open(o Options) (backends.Backend, error) {
	image := ""
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/", "DOCKER_CONFIG=/nonexistent"}
	if o.Host != "" {
		env = append(env, "DOCKER_HOST="+o.Host)
	}
	return foreign.Open(foreign.Tool{
		Name: "docker", Program: cmp.Or(o.Program, "docker"),
		Install:  "run: apt-get install docker.io (or your system's like), and start its daemon",
		RootOnly: true,
		Compiled: true,
		Remote:   true,
		SetName:  true,
		Prepare: func(program string) error {
			var err error
			image, err = makeImage(program, env)
			return err
		},
		Command: func(j *foreign.Job) (foreign.Line, error) { return command(j, image, env) },
	})
}

// initPath is where the image has our init.
const initPath = "/sbx-init"

func command(j *foreign.Job, image string, env []string) (foreign.Line, error) {
	args := []string{
		j.Program, "run", "--rm", "--pull=never", "--name", fmt.Sprintf("sbx-%d-%d", os.Getpid(), j.PID),
		"--network=host", "--log-driver=none", "--no-healthcheck",
		"--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined", "--security-opt=label=disable",
		"--cap-drop=ALL",
	}
	// And what the loopback interface of the init's own network needs.
	for _, c := range append(foreign.ShellCapabilities(), "CAP_NET_ADMIN") {
		args = append(args, "--cap-add="+strings.TrimPrefix(c, "CAP_"))
	}
	args = append(args, "--entrypoint="+initPath, image)
	return foreign.Line{Args: append(args, j.Init[1:]...), Env: env}, nil
}

// makeImage sees to it that the daemon has the image, and returns its name.
func makeImage(program string, env []string) (string, error) {
	init, err := foreign.Program()
	if err != nil {
		return "", err
	}
	name := fmt.Sprintf("sbx-action/init:%.12x", sha256.Sum256(init))
	if run(nil, env, program, "image", "inspect", name) == nil {
		return name, nil
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	err = w.WriteHeader(&tar.Header{Name: strings.TrimPrefix(initPath, "/"), Mode: 0o755, Size: int64(len(init))})
	if err == nil {
		_, err = w.Write(init)
	}
	if err := errors.Join(err, w.Close()); err != nil {
		return "", fmt.Errorf("make the image of the init: %w", err)
	}
	if err := run(&archive, env, program, "import", "-", name); err != nil {
		return "", fmt.Errorf("give docker's daemon the image of the init: %w", err)
	}
	return name, nil
}

// run runs docker. Its error is what docker says.
func run(stdin *bytes.Buffer, env []string, args ...string) error {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = env
	if stdin != nil {
		cmd.Stdin = stdin
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	err := cmd.Run()
	if text, _, _ := strings.Cut(strings.TrimSpace(said.String()), "\n"); err != nil && text != "" {
		return errors.New(text)
	}
	return err
}
