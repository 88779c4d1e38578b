package promise

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/sbx-action/sbx-action/backends"
	"golang.org/x/sys/unix"
)

// refuseUname is a filter that answers uname with an error that it never has:
// load the number of the call; if it is that one, the error; else go on.
var refuseUname = filter(
	unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS},
	unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_UNAME, Jf: 1},
	unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0x00050000 + uint32(unix.EBADFD)},
	unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0x7fff0000},
)

func filter(program ...unix.SockFilter) (out []byte) {
	for _, f := range program {
		out = binary.NativeEndian.AppendUint16(out, f.Code)
		out = append(out, f.Jt, f.Jf)
		out = binary.NativeEndian.AppendUint32(out, f.K)
	}
	return out
}

// checkFilter runs a probe of whose system calls one is refused, and then what
// the deny list refuses.
func checkFilter(t *trial) error {
	if _, err := t.inside("hostname"); err != nil {
		return fmt.Errorf("control without the filter: %w", err)
	}
	spec := t.spec("hostname")
	spec.Filter = refuseUname
	o, err := t.run(spec)
	if err != nil {
		return err
	}
	if o.Code == 0 || !strings.Contains(o.err, unix.EBADFD.Error()) {
		return fmt.Errorf("a refused system call: %v", o)
	}
	spec = t.spec("status", "Seccomp_filters")
	without, err := t.succeed(spec)
	if err != nil {
		return err
	}
	spec = t.spec("status", "Seccomp_filters")
	spec.Filter = refuseUname
	with, err := t.succeed(spec)
	if err != nil {
		return err
	}
	var before, after int
	if _, err := fmt.Sscanf(without+with, "Seccomp_filters %d\nSeccomp_filters %d\n", &before, &after); err != nil || after != before+1 {
		return fmt.Errorf("%q and then %q: want one filter more", without, with)
	}
	spec = t.spec("exit", "0")
	spec.Filter = filter(unix.SockFilter{Code: 0xffff})
	if o, err := t.run(spec); err == nil {
		return fmt.Errorf("a filter that is none was taken: %v", o)
	}
	return nil
}

func checkGroup(t *trial) error {
	group := 4711
	spec := t.spec("ids")
	spec.Root.Group = &group
	got, err := t.succeed(spec)
	if err != nil {
		return err
	}
	if err := equal("ids", got, fmt.Sprintf("uid %d %d %d\ngid 4711 4711 4711\n", backends.ID, backends.ID, backends.ID)); err != nil {
		return err
	}
	user := 4712
	spec = t.spec("ids")
	spec.Root.As, spec.Root.Group = &user, &group
	if got, err = t.succeed(spec); err != nil {
		return err
	}
	return equal("ids", got, "uid 4712 4712 4712\ngid 4711 4711 4711\n")
}
