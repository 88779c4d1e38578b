package promise

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sbx-action/sbx-action/backends"
	"golang.org/x/sys/unix"
)

func networkPromises() []Promise {
	isolated := func(p Promise) Promise {
		p.needs = hasNetworkNone
		p.asks = func(s *backends.Spec) { s.Network = backends.NetworkNone }
		return p
	}
	looped := func(p Promise) Promise {
		p.needs = hasLoopback
		return p
	}
	return []Promise{
		looped(Promise{Name: "network/interfaces", Says: "there is one network interface, lo, and it is up", check: checkInterfaces}),
		looped(Promise{Name: "network/loopback", Says: "programs in the sandbox can talk to each other through lo and abstract sockets", check: checkLoopback}),
		isolated(Promise{Name: "network/host-tcp", Says: "a TCP server of the host cannot be reached", check: checkHostTCP}),
		isolated(Promise{Name: "network/host-udp", Says: "a UDP server of the host cannot be reached", check: checkHostUDP}),
		isolated(Promise{Name: "network/host-abstract", Says: "an abstract unix socket of the host cannot be reached", check: checkHostAbstract}),
		{Name: "network/host-unix", Says: "a unix socket in the host's /tmp cannot be reached", check: checkHostUnix},
		looped(Promise{Name: "network/other-action", Says: "servers of another command that runs at the same time cannot be reached", check: checkOtherAction}),
		isolated(Promise{Name: "network/packet-socket", Says: "packets cannot be read off the wire", check: func(t *trial) error { return t.defeats(attempt{args: []string{"socket", "packet"}, root: true}) }}),
		{Name: "network/vsock", Says: "the hypervisor of a virtual machine cannot be reached", needs: hasSeccomp, check: checkVsock},
		isolated(Promise{Name: "network/raw-socket", Says: "raw packets cannot be sent", check: func(t *trial) error { return t.defeats(attempt{args: []string{"socket", "raw"}, root: true}) }}),
		{
			Name: "network/host", Says: "a command that was given the host's network has it",
			needs: func(c backends.Capabilities) bool { return c.NetworkHost },
			asks:  func(s *backends.Spec) { s.Network = backends.NetworkHost },
			check: checkNetworkHost,
		},
	}
}

func checkInterfaces(t *trial) error {
	got, err := t.inside("net")
	if err != nil {
		return err
	}
	if err := equal("interfaces by netlink", got, "lo up\n"); err != nil {
		return err
	}
	if got, err = t.inside("links"); err != nil {
		return err
	}
	if err := equal("interfaces in /proc/net/dev", got, "lo\n"); err != nil {
		return err
	}
	// The host may have no other interface either, but its network is not
	// the one that the command is in.
	if got, err = t.inside("namespace", "net"); err != nil {
		return err
	}
	host, err := t.outside("namespace", "net")
	if err != nil {
		return err
	}
	if got == host {
		return fmt.Errorf("network namespace %s is the host's", strings.TrimSpace(got))
	}
	return nil
}

// checkLoopback relies on the probe, which connects to itself.
func checkLoopback(t *trial) error {
	_, err := t.inside("serve", "@"+t.mark(), "0")
	return err
}

// listen returns a listening socket of the host, which accepts nothing: the
// kernel completes connections without us.
func (t *trial) listen(domain int, addr unix.Sockaddr) (int, error) {
	s, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	t.later(func() { unix.Close(s) })
	if err := unix.Bind(s, addr); err != nil {
		return -1, err
	}
	return s, unix.Listen(s, 64)
}

var loopback = [4]byte{127, 0, 0, 1}

func (t *trial) listenTCP() (string, error) {
	s, err := t.listen(unix.AF_INET, &unix.SockaddrInet4{Addr: loopback})
	if err != nil {
		return "", err
	}
	return port(s)
}

func port(s int) (string, error) {
	addr, err := unix.Getsockname(s)
	if err != nil {
		return "", err
	}
	return strconv.Itoa(addr.(*unix.SockaddrInet4).Port), nil
}

func checkHostTCP(t *trial) error {
	p, err := t.listenTCP()
	if err != nil {
		return err
	}
	return t.defeats(attempt{args: []string{"tcp", p}})
}

func checkHostUDP(t *trial) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.Bind(s, &unix.SockaddrInet4{Addr: loopback}); err != nil {
		return err
	}
	p, err := port(s)
	if err != nil {
		return err
	}
	over := make(chan bool)
	go func() { // echo, until the socket is shut down
		defer close(over)
		buf := make([]byte, 64)
		for {
			n, from, err := unix.Recvfrom(s, buf, 0)
			if err != nil || from == nil || n == 0 {
				return
			}
			unix.Sendto(s, buf[:n], 0, from)
		}
	}()
	t.later(func() {
		unix.Shutdown(s, unix.SHUT_RDWR)
		<-over
		unix.Close(s)
	})
	return t.defeats(attempt{args: []string{"udp", p}})
}

func checkHostAbstract(t *trial) error {
	name := "@" + t.mark()
	if _, err := t.listen(unix.AF_UNIX, &unix.SockaddrUnix{Name: name}); err != nil {
		return err
	}
	return t.defeats(attempt{args: []string{"unix", name}})
}

func checkHostUnix(t *trial) error {
	dir, err := os.MkdirTemp("/tmp", "promise-") // a path that a socket's name has room for
	if err != nil {
		return err
	}
	t.later(func() { os.RemoveAll(dir) })
	name := filepath.Join(dir, "socket")
	if _, err := t.listen(unix.AF_UNIX, &unix.SockaddrUnix{Name: name}); err != nil {
		return err
	}
	return t.defeats(attempt{args: []string{"unix", name}})
}

// checkOtherAction runs a server in one sandbox, which has connected to itself
// when it prints its port, and clients in another one.
func checkOtherAction(t *trial) error {
	name := "@" + t.mark()
	stdin, release, err := pipe(t)
	if err != nil {
		return err
	}
	out, stdout, err := pipe(t)
	if err != nil {
		return err
	}
	server := t.spec("serve", name, t.lifetime())
	server.Stdin, server.Stdout = stdin, stdout
	ended := make(chan error, 1)
	go func() {
		_, err := t.succeed(server)
		stdout.Close()
		ended <- err
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return fmt.Errorf("the server in the first sandbox: %w", <-ended)
	}
	err = all(
		func() error { return t.unreachable("tcp", strings.TrimSpace(line)) },
		func() error { return t.unreachable("unix", name) },
	)
	release.Close()
	if e := <-ended; e != nil {
		return fmt.Errorf("the server in the first sandbox: %w", e)
	}
	return err
}

func (t *trial) unreachable(args ...string) error {
	answer, err := t.inside(args...)
	if err != nil {
		return err
	}
	if yes, err := said(answer); err != nil || yes {
		return fmt.Errorf("%q reached it: %s(error %v)", args, answer, err)
	}
	return nil
}

func checkNetworkHost(t *trial) error {
	p, err := t.listenTCP()
	if err != nil {
		return err
	}
	spec := t.spec("tcp", p)
	spec.Network = backends.NetworkHost
	answer, err := t.succeed(spec)
	if err != nil {
		return err
	}
	if yes, err := said(answer); err != nil || !yes {
		return fmt.Errorf("the host's server was not reached: %s(error %v)", answer, err)
	}
	if !t.caps.NetworkNone { // nor can there be a command without it
		return nil
	}
	// And the next command, which was not given it, has it not.
	return t.unreachable("tcp", p)
}

// checkVsock is about a kind of socket that network namespaces do not divide,
// and that not all kernels have.
func checkVsock(t *trial) error {
	err := t.defeats(attempt{args: []string{"socket", "vsock"}})
	if errors.Is(err, errUnproven) && strings.Contains(err.Error(), unix.EAFNOSUPPORT.Error()) {
		return nil // nobody has it
	}
	return err
}
