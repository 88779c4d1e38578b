package probe

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// first says yes when f succeeds for one of the paths.
func first(paths []string, f func(string) error) int {
	var errs []error
	for _, p := range paths {
		err := f(p)
		if err == nil {
			fmt.Printf("yes: %s\n", p)
			return 0
		}
		errs = append(errs, err)
	}
	return answer(errors.Join(errs...))
}

// attemptExists PATH…: is one of these files there? On the way through /proc
// all processes are tried.
func attemptExists(args []string) int {
	paths := append([]string(nil), args...)
	for _, p := range args {
		paths = append(paths, "/proc/self/root/../.."+p, "/../../../.."+p, "/proc/self/cwd/../../../../../.."+p)
		for pid := range 200 {
			paths = append(paths, "/proc/"+strconv.Itoa(pid)+"/root"+p, "/proc/"+strconv.Itoa(pid)+"/cwd/../../../../.."+p)
		}
	}
	return first(paths, func(p string) error {
		_, err := os.Lstat(p)
		return err
	})
}

// attemptWrite PATH…: can the bytes of a file be changed? It is tried by
// writing its first byte again.
func attemptWrite(args []string) int {
	return first(args, func(p string) error {
		f, err := os.OpenFile(p, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		var b [1]byte
		if _, err := f.ReadAt(b[:], 0); err != nil {
			return err
		}
		_, err = f.WriteAt(b[:], 0)
		return err
	})
}

// attemptOpenWrite PATH…: can a file be opened for writing? Nothing is written.
func attemptOpenWrite(args []string) int {
	return first(args, func(p string) error {
		f, err := os.OpenFile(p, os.O_WRONLY, 0)
		if err == nil {
			f.Close()
		}
		return err
	})
}

// attemptOpenRead PATH…: can a file be opened for reading?
func attemptOpenRead(args []string) int {
	return first(args, func(p string) error {
		f, err := os.Open(p)
		if err == nil {
			f.Close()
		}
		return err
	})
}

// put PATH TEXT… writes files, and makes their directories. A PATH that ends
// with a slash is a directory only; a TEXT that begins with "->" makes a link.
func put(args []string) int {
	for i := 0; i+1 < len(args); i += 2 {
		path, text := args[i], args[i+1]
		must(0, os.MkdirAll(filepath.Dir(path), 0o755))
		if strings.HasSuffix(path, "/") {
			continue
		}
		if target, ok := strings.CutPrefix(text, "->"); ok {
			must(0, os.Symlink(target, path))
			continue
		}
		must(0, os.WriteFile(path, []byte(text), 0o644))
	}
	return 0
}

// remove PATH… removes files and trees.
func remove(args []string) int {
	for _, p := range args {
		must(0, os.RemoveAll(p))
	}
	return 0
}

// vandal DIR… does to trees everything that may change them, and tells what
// worked. It goes on after every failure.
func vandal(args []string) int {
	for _, dir := range args {
		var files, dirs []string
		filepath.WalkDir(dir, func(p string, e os.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				dirs = append(dirs, p)
			} else if err == nil {
				files = append(files, p)
			}
			return nil
		})
		for _, d := range dirs {
			vandalDir(d)
		}
		for _, f := range files {
			vandalFile(f)
		}
		did("remove tree", dir, os.RemoveAll(dir))
	}
	return 0
}

func did(what, path string, err error) {
	if err == nil {
		fmt.Println(what, path)
	}
}

func vandalDir(d string) {
	did("chmod", d, os.Chmod(d, 0o777))
	did("chown", d, os.Lchown(d, 0, 0))
	did("create in", d, os.WriteFile(d+"/vandal-new", []byte("new"), 0o666))
	did("mkdir in", d, os.Mkdir(d+"/vandal-dir", 0o777))
	did("symlink in", d, os.Symlink("/", d+"/vandal-link"))
	did("mkfifo in", d, unix.Mkfifo(d+"/vandal-fifo", 0o666))
	did("setxattr", d, unix.Setxattr(d, "user.vandal", []byte("x"), 0))
	did("utimes", d, unix.UtimesNanoAt(unix.AT_FDCWD, d, []unix.Timespec{{Sec: 1}, {Sec: 1}}, 0))
}

func vandalFile(f string) {
	did("chmod", f, os.Chmod(f, 0o4777))
	did("chown", f, os.Lchown(f, 0, 0))
	did("setxattr", f, unix.Setxattr(f, "user.vandal", []byte("x"), 0))
	did("setxattr", f, unix.Setxattr(f, "user.overlay.redirect", []byte("/etc/passwd"), 0))
	did("utimes", f, unix.UtimesNanoAt(unix.AT_FDCWD, f, []unix.Timespec{{Sec: 1}, {Sec: 1}}, 0))
	did("link", f, os.Link(f, f+".vandal-link"))
	if out, err := os.MkdirTemp("/tmp", "vandal-"); err == nil {
		did("link out", f, os.Link(f, out+"/link"))
		os.RemoveAll(out)
	}
	did("append", f, appendTo(f))
	did("truncate", f, os.Truncate(f, 0))
	did("write", f, os.WriteFile(f, []byte("vandal"), 0o666))
	did("write through /proc", f, writeThroughProc(f))
	did("map", f, writeMapped(f))
	did("rename", f, os.Rename(f, f+".vandal"))
	did("remove", f, os.Remove(f))
	did("remove link", f, os.Remove(f+".vandal-link"))
	did("replace", f, os.WriteFile(f, []byte("vandal"), 0o666))
}

func appendTo(f string) error {
	w, err := os.OpenFile(f, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer w.Close()
	_, err = w.WriteString("vandal")
	return err
}

// writeThroughProc opens for reading and then again through /proc, which looks
// at the permissions anew.
func writeThroughProc(f string) error {
	r, err := os.Open(f)
	if err != nil {
		return err
	}
	defer r.Close()
	return appendTo("/proc/self/fd/" + strconv.Itoa(int(r.Fd())))
}

func writeMapped(f string) error {
	w, err := os.OpenFile(f, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer w.Close()
	b, err := unix.Mmap(int(w.Fd()), 0, 1, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err == nil {
		b[0] = 'v' // the caller has made sure that there is a byte
	}
	return err
}

// attemptRemount DIR FILE: does a read-only mount become writable? FILE is
// below DIR.
func attemptRemount(args []string) int {
	errs := []error{
		unix.Mount("", args[0], "", unix.MS_REMOUNT|unix.MS_BIND, ""),
		unix.Mount("", args[0], "", unix.MS_REMOUNT, ""),
		unix.Mount(args[0], args[0], "", unix.MS_BIND|unix.MS_REC, ""),
		unix.Mount("", args[0], "", unix.MS_REMOUNT|unix.MS_BIND, ""),
		unix.Unmount(args[0], unix.MNT_DETACH),
	}
	f, err := os.OpenFile(args[1], os.O_WRONLY, 0)
	if err == nil {
		f.Close()
		return answer(nil)
	}
	return answer(errors.Join(append(errs, err)...))
}

// attemptRemountInNewNamespace does the same in a new mount namespace, and a
// new user namespace where that is needed.
func attemptRemountInNewNamespace(args []string) int {
	if err := newMountNamespace(); err != nil {
		return answer(err)
	}
	return attemptRemount(args)
}

// newMountNamespace moves this thread, which it locks, to a mount namespace of
// its own: with the capabilities that we have, else with those that a user
// namespace gives.
func newMountNamespace() error {
	runtime.LockOSThread()
	// Go's threads share what unshare(CLONE_NEWNS) wants for itself, so
	// CLONE_FS comes first; and a process with threads cannot make a user
	// namespace at all: for that, the probe is started anew by clone.
	err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS)
	if err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
}

// attemptMount DIR: can anything be mounted? It is tried in a mount namespace
// of its own first, which the host does not see.
func attemptMount(args []string) int {
	if err := newMountNamespace(); err == nil {
		return answer(unix.Mount("none", args[0], "tmpfs", 0, ""))
	}
	if unix.Getpid() > 100 { // not in a sandbox: leave the host alone
		return answer(fmt.Errorf("not tried outside"))
	}
	return answer(unix.Mount("none", args[0], "tmpfs", 0, ""))
}

// attemptMountInUserNamespace DIR: does a nested user namespace give the power
// to mount?
func attemptMountInUserNamespace(args []string) int {
	p, err := startInUserNamespace("mount", args[0])
	if err != nil {
		return answer(err)
	}
	return wait(p)
}

// attemptChroot PATH: does a second chroot lead out of the first one, to PATH?
func attemptChroot(args []string) int {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return answer(err)
	}
	dir := must(os.MkdirTemp("/tmp", "chroot-"))
	defer os.Remove(dir)
	if err := unix.Chroot(dir); err != nil {
		return answer(err)
	}
	for range 64 { // we are still outside of it, and above us nothing stops us
		unix.Chdir("..")
	}
	if err := unix.Chroot("."); err != nil {
		return answer(err)
	}
	_, err := os.Lstat(args[0])
	return answer(err)
}

// attemptHandle TYPE HEX DIR…: can a file be opened by its handle alone?
func attemptHandle(args []string) int {
	h := unix.NewFileHandle(int32(number(args[0])), must(hex.DecodeString(args[1])))
	return first(args[2:], func(dir string) error {
		d, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		_, err = unix.OpenByHandleAt(d, h, unix.O_RDONLY|unix.O_CLOEXEC)
		return err
	})
}

// attemptMknod DIR: can a device be made, and opened?
func attemptMknod(args []string) int {
	name := filepath.Join(args[0], "made-by-mknod")
	defer os.Remove(name)
	if err := unix.Mknod(name, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		return answer(err)
	}
	f, err := os.Open(name)
	if err == nil {
		f.Close()
	}
	return answer(err)
}

// fill DIR MIB writes files until there is no more room.
func fill(args []string) int {
	chunk := make([]byte, 1<<20)
	for i := range number(args[1]) {
		err := os.WriteFile(filepath.Join(args[0], "fill-"+strconv.Itoa(i)), chunk, 0o644)
		if err != nil {
			return answer(err)
		}
	}
	return answer(nil)
}

// room DIR... says how many bytes the file systems of directories may hold.
func room(args []string) int {
	for _, dir := range args {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			return answer(err)
		}
		fmt.Println(st.Blocks * uint64(st.Bsize))
	}
	return 0
}

// grow FILE MIB makes one file larger and larger. With the default action of
// SIGXFSZ, that ends it.
func grow(args []string) int {
	defaultAction(int(unix.SIGXFSZ))
	f := must(os.Create(args[0]))
	chunk := make([]byte, 1<<20)
	for range number(args[1]) {
		if _, err := f.Write(chunk); err != nil {
			return answer(err)
		}
	}
	return answer(nil)
}

// lookups SCRIPT names paths in as many ways as programs do. It works in the
// directory it was started in, which has the files in.txt, sub/rel.txt, and
// SCRIPT, which is executable.
func lookups(args []string) int {
	var st unix.Stat_t
	var stx unix.Statx_t
	here := unix.AT_FDCWD
	d := must(unix.Open("sub", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0))
	must(unix.Open("in.txt", unix.O_RDONLY|unix.O_CLOEXEC, 0))
	unix.Stat("absent.h", &st)
	unix.Lstat("../absent-above", &st)
	unix.Statx(here, "absent-statx", 0, 0, &stx)
	unix.Statx(here, "absent-not-empty", unix.AT_EMPTY_PATH, 0, &stx) // the flag allows for "", no more
	unix.Fstatat(d, "absent-not-empty-at", &st, unix.AT_EMPTY_PATH)
	unix.Access("absent-access", 0)
	unix.Faccessat2(here, "absent-faccessat", 0, unix.AT_EACCESS)
	unix.Readlink("absent-readlink", make([]byte, 8))
	unix.Unlink("absent-unlink")
	unix.Rename("absent-rename-from", "absent-rename-to")
	unix.Mkdir("made", 0o755)
	unix.Chmod("absent-chmod", 0o644)
	unix.Truncate("absent-truncate", 0)
	unix.Getxattr("absent-getxattr", "user.x", make([]byte, 8))
	unix.Open("absent-open", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC}
	unix.Openat2(here, "absent-openat2", &how)
	must(unix.Openat(d, "rel.txt", unix.O_RDONLY|unix.O_CLOEXEC, 0))
	unix.Openat(d, "../sub/absent-dots", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(0, unix.Symlink("sub", "link"))
	must(unix.Open("link/rel.txt", unix.O_RDONLY|unix.O_CLOEXEC, 0))
	must(0, unix.Chdir("sub"))
	unix.Open("absent-after-chdir", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(0, unix.Fchdir(must(unix.Open("/", unix.O_RDONLY|unix.O_CLOEXEC, 0))))
	unix.Open("absent-at-root", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	p := must(os.StartProcess(args[0], []string{args[0], "absent-argument"}, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}}))
	must(p.Wait())
	return 0
}
