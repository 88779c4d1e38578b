package promise

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/backends"
)

func streamPromises() []Promise {
	return []Promise{
		{Name: "streams/separate", Says: "standard output and standard error are told apart", check: checkSeparate},
		{Name: "streams/joined", Says: "output and error that go to one file keep their order", check: checkJoined},
		{Name: "streams/binary", Says: "megabytes with every byte in them go in and come out unchanged, through pipes", check: checkBinary},
		{Name: "streams/null", Says: "a stream that was not given is /dev/null", check: checkNullStreams},
		{Name: "streams/no-terminal", Says: "the command has no controlling terminal, and cannot type on the one that it may write to", check: checkNoTerminal},
		{
			Name: "streams/terminal", Says: "a command that is given a terminal is in charge of it: it reads what is typed, and Ctrl-C ends it",
			needs: func(c backends.Capabilities) bool { return c.Terminal },
			asks:  func(s *backends.Spec) { s.Terminal = func(far *os.File) { far.Close() } },
			check: checkTerminal,
		},
	}
}

func checkSeparate(t *trial) error {
	o, err := t.run(t.spec("say", "xyzzy\n", "plugh\n", "y2\n", "p2\n"))
	if err != nil {
		return err
	}
	if o.Code != 0 {
		return fmt.Errorf("ended with %v", o)
	}
	return all(
		func() error { return equal("output", o.out, "xyzzy\ny2\n") },
		func() error { return equal("errors", o.err, "plugh\np2\n") },
	)
}

func checkJoined(t *trial) error {
	f, err := t.temp()
	if err != nil {
		return err
	}
	defer f.Close()
	spec := t.spec("say", "a\n", "b\n", "c\n", "d\n", "e\n")
	spec.Stdout, spec.Stderr = f, f
	if _, err := t.succeed(spec); err != nil {
		return err
	}
	return equal("output and errors", readAll(f), "a\nb\nc\nd\ne\n")
}

// checkBinary sends so much that no buffer on the way holds all of it.
func checkBinary(t *trial) error {
	data := make([]byte, 8<<20+1)
	rand.NewChaCha8([32]byte{}).Read(data)
	copy(data[1<<20:], make([]byte, 1<<16))
	inR, inW, err := os.Pipe()
	if err != nil {
		return err
	}
	defer inR.Close()
	outR, outW, err := os.Pipe()
	if err != nil {
		return err
	}
	defer outR.Close()
	go func() {
		inW.Write(data)
		inW.Close()
	}()
	sum := sha256.New()
	read := make(chan int64)
	go func() {
		n, _ := io.Copy(sum, outR)
		read <- n
	}()
	spec := t.spec("cat")
	spec.Stdin, spec.Stdout = inR, outW
	_, err = t.succeed(spec)
	outW.Close()
	n := <-read
	if err != nil {
		return err
	}
	if want := sha256.Sum256(data); !bytes.Equal(sum.Sum(nil), want[:]) {
		return fmt.Errorf("of %d bytes %d came out, and not the same ones", len(data), n)
	}
	return nil
}

func checkNullStreams(t *trial) error {
	spec := t.spec("stdio")
	got, err := t.succeed(spec)
	if err != nil {
		return err
	}
	stdin, _, _ := strings.Cut(got, "\n")
	if err := equal("standard input", stdin, "0 020000 1:3"); err != nil {
		return err
	}
	// With all of them missing, the answer comes by another way.
	spec = t.spec("say", "lost", "lost too")
	status, err := t.Backend.Run(t.ctx, spec)
	if err != nil || status.Code != 0 {
		return fmt.Errorf("without any stream: %+v, error %v", status, err)
	}
	return nil
}

func checkNoTerminal(t *trial) error {
	master, slave, err := openPty()
	if err != nil {
		return fmt.Errorf("%w: a pseudo terminal: %w", errUnproven, err)
	}
	defer master.Close()
	defer slave.Close()
	for _, what := range []string{"tty", "tiocsti"} {
		spec := t.spec(what)
		spec.Stdin = slave
		answer, err := t.succeed(spec)
		if err != nil {
			return err
		}
		if yes, err := said(answer); err != nil || yes {
			return fmt.Errorf("%s: %s(error %v)", what, answer, err)
		}
	}
	// Outside, a process that has this terminal as its own can open it.
	out, err := t.onTerminal(slave, "tty")
	if err != nil {
		return err
	}
	if yes, _ := said(out); !yes {
		return fmt.Errorf("%w: no terminal outside either: %s", errUnproven, out)
	}
	// Pushing characters may be switched off for users; root can always.
	if out, err = t.onTerminal(slave, "tiocsti"); err != nil {
		return err
	}
	if yes, _ := said(out); !yes {
		return fmt.Errorf("%w: TIOCSTI: %s", errUnproven, out)
	}
	return nil
}

// checkTerminal types a line, which comes back twice: from the terminal, and from
// the command. Then it types Ctrl-C.
func checkTerminal(t *trial) error {
	for _, c := range []struct {
		probe, typed, want string
		signal             unix.Signal
	}{
		{"tty", "", "yes", 0},
		{"cat", "xyzzy\n", "xyzzy\r\nxyzzy\r\n", unix.SIGINT},
	} {
		var said bytes.Buffer
		var read chan error
		spec := t.spec(c.probe)
		spec.Terminal = func(far *os.File) {
			read = make(chan error, 1)
			io.WriteString(far, c.typed) //nolint:errcheck // then it is not read
			go func() { read <- onFarEnd(far, &said, c.want, c.signal != 0) }()
		}
		status, err := t.Backend.Run(t.ctx, spec)
		if read == nil {
			return fmt.Errorf("%s: there is no terminal: %+v, error %v", c.probe, status, err)
		}
		if e := <-read; err == nil && e != nil {
			err = e
		}
		if err != nil || status.Signal != int(c.signal) || !strings.HasPrefix(said.String(), c.want) {
			return fmt.Errorf("%s: %+v, error %v, and said %q; want %q and signal %d", c.probe, status, err, said.String(), c.want, c.signal)
		}
	}
	return nil
}

// onFarEnd reads all that is written on a terminal, and types Ctrl-C when it is what
// is waited for.
func onFarEnd(far *os.File, said *bytes.Buffer, want string, interrupt bool) error {
	defer far.Close()
	for buf := make([]byte, 512); ; {
		n, err := far.Read(buf)
		said.Write(buf[:n])
		if interrupt && strings.Contains(said.String(), want) {
			interrupt = false
			if _, err := far.WriteString("\x03"); err != nil {
				return err
			}
		}
		if err != nil { // EIO, when nobody has the other end
			return nil
		}
	}
}

func openPty() (master, slave *os.File, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	fd := int(master.Fd())
	if err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err == nil {
		var n int
		if n, err = unix.IoctlGetInt(fd, unix.TIOCGPTN); err == nil {
			slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
		}
	}
	if err != nil {
		master.Close()
	}
	return master, slave, err
}
