package staging

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/backends"
)

// The tests show roots by real mounts. The mounts are made by this program
// itself, run again as a child in a mount namespace of its own, where it is
// root: of the machine, or of a user namespace.

// A childJob is what a child is asked to do.
type childJob struct {
	Root    backends.Root // without Fill: Upper is filled
	Upper   string
	Work    string
	Target  string
	User    bool     // in a user namespace
	Actions []string // names of childActions
}

const childVariable = "SBX_STAGING_TEST_CHILD"

func TestMain(m *testing.M) {
	if job := os.Getenv(childVariable); job != "" {
		if err := runChild(job); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func runChild(text string) error {
	var job childJob
	if err := json.Unmarshal([]byte(text), &job); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make private: %w", err)
	}
	if err := mountRoot(&job); err != nil {
		return err
	}
	for _, name := range job.Actions {
		if file, ok := strings.CutPrefix(name, "read "); ok { // the file has something in it
			if data, err := os.ReadFile(job.Target + "/" + file); err != nil || len(data) == 0 {
				return fmt.Errorf("%s: %d bytes, %w", name, len(data), err)
			}
			continue
		}
		if err := childActions[name](job.Target); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// mountRoot mounts a root as a backend would.
func mountRoot(job *childJob) error {
	r := &job.Root
	if len(r.Lowers) == 0 {
		if err := unix.Mount(job.Upper, job.Target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind the scratch: %w", err)
		}
	} else if err := mountOverlay(job); err != nil {
		return err
	}
	for _, b := range r.Binds {
		if err := bindReadOnly(b.Source, job.Target+b.Target); err != nil {
			return fmt.Errorf("bind %s: %w", b.Target, err)
		}
	}
	return nil
}

func mountOverlay(job *childJob) error {
	fd, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	options := [][2]string{{"upperdir", job.Upper}, {"workdir", job.Work}}
	for i, l := range job.Root.Lowers {
		dir := l.Dir
		if l.Image != "" {
			dir = fmt.Sprintf("%s/image%d", filepath.Dir(job.Work), i)
			if err := errors.Join(os.Mkdir(dir, 0o755), unix.Mount(l.Image, dir, "erofs", unix.MS_RDONLY, "")); err != nil {
				return fmt.Errorf("mount image %s: %w", l.Image, err)
			}
		}
		options = append(options, [2]string{"lowerdir+", dir})
	}
	if job.Root.Data != "" {
		options = append(options, [2]string{"datadir+", job.Root.Data})
	}
	if job.User {
		options = append(options, [2]string{"userxattr", ""})
	} else {
		options = append(options, [2]string{"metacopy", "on"}, [2]string{"redirect_dir", "on"})
	}
	for _, o := range options {
		if o[1] == "" {
			err = unix.FsconfigSetFlag(fd, o[0])
		} else {
			err = unix.FsconfigSetString(fd, o[0], o[1])
		}
		if err != nil {
			return fmt.Errorf("overlay %s: %w", o[0], err)
		}
	}
	if err := unix.FsconfigCreate(fd); err != nil {
		msg := make([]byte, 1000)
		n, _ := unix.Read(fd, msg)
		return fmt.Errorf("overlay: %w: %s", err, msg[:max(n, 0)])
	}
	mnt, err := unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(mnt)
	return unix.MoveMount(mnt, "", unix.AT_FDCWD, job.Target, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

func bindReadOnly(source, target string) error {
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(target); errors.Is(err, fs.ErrNotExist) {
		if info.IsDir() {
			err = os.MkdirAll(target, 0o755)
		} else {
			err = errors.Join(os.MkdirAll(filepath.Dir(target), 0o755), os.WriteFile(target, nil, 0o644))
		}
		if err != nil {
			return err
		}
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	return unix.MountSetattr(unix.AT_FDCWD, target, unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
}

// describe says everything about the file at path that a command can see and
// that does not differ between two roots of one tree.
func describe(path string) (string, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return "", err
	}
	line := fmt.Sprintf("%o %d:%d %d", st.Mode, st.Uid, st.Gid, st.Mtim.Nano())
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		data, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%s %d links %d %x", line, st.Nlink, st.Size, sha256.Sum256(data)), nil
	case unix.S_IFLNK:
		target, err := os.Readlink(path)
		return line + " -> " + target, err
	}
	return line, nil
}

// childActions are what a child can do in a mounted root.
var childActions = map[string]func(root string) error{
	// dump prints what is below /build, one file a line.
	"dump": func(root string) error {
		var b strings.Builder
		err := filepath.WalkDir(root+"/build", func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			line, err := describe(path)
			fmt.Fprintf(&b, "%q %s\n", strings.TrimPrefix(path, root+"/build"), line)
			return err
		})
		fmt.Print(b.String())
		return err
	},
	"abuse": abuse,
	"ls": func(root string) error {
		for _, dir := range []string{"/", "/etc"} {
			list, err := os.ReadDir(root + dir)
			if err != nil {
				return err
			}
			for _, e := range list {
				fmt.Println(filepath.Join(dir, e.Name()), e.Type())
			}
		}
		return nil
	},
	"gcc": func(root string) error {
		cmd := exec.Command("/bin/sh", "-c", `id -un 65000 && getent hosts sbx && printf 'int main(){return 0;}' | gcc -x c - -o /build/a.out && /build/a.out && echo compiled`)
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
		cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin"}
		cmd.Dir = "/"
		out, err := cmd.CombinedOutput()
		fmt.Printf("%s", out)
		return err
	},
}

// abuse does to every file what a command could think of.
func abuse(root string) error {
	var done int
	err := filepath.WalkDir(root+"/build", func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.Type() == fs.ModeSymlink || path == root+"/build" || len(e.Name()) > 200 {
			return nil
		}
		errs := []error{
			os.Chmod(path, 0o777),
			os.Chtimes(path, time.Unix(1, 0), time.Unix(1, 0)),
			unix.Setxattr(path, "user.x", []byte("1"), 0),
		}
		if !e.IsDir() {
			errs = append(errs, os.Link(path, path+".link"), os.WriteFile(path, []byte("overwritten"), 0o600),
				os.Truncate(path, 1), os.Rename(path, path+".renamed"), os.Remove(path+".link"))
		}
		if err := errors.Join(errs...); err != nil {
			return err
		}
		done++
		return nil
	})
	fmt.Println("abused", done)
	return err
}

// A mode is one way in which a backend may be able to show roots.
type mode struct {
	name string
	caps backends.Capabilities
	kind layerKind
}

// modes are those that this user can have.
func modes() []mode {
	full := backends.Capabilities{Works: true, Overlay: true, DataLayers: true, Owner: os.Geteuid()}
	noData, none := full, full
	noData.DataLayers = false
	none.Overlay, none.DataLayers = false, false
	if os.Geteuid() != 0 {
		return []mode{{"user", full, userTreeLayer}, {"user without data layers", noData, userTreeLayer}, {"user without overlay", none, noLayer}}
	}
	full.Owner, noData.Owner, none.Owner = backends.ID, backends.ID, backends.ID
	images := full
	images.Images = true
	return []mode{
		{"root", images, imageLayer},
		{"root without images", full, rootTreeLayer},
		{"root without data layers", noData, rootTreeLayer},
		{"root without overlay", none, noLayer},
	}
}

// inRoot shows root to a child and returns what it prints.
func inRoot(tb testing.TB, m mode, root backends.Root, actions ...string) string {
	tb.Helper()
	scratch := tb.TempDir()
	job := childJob{Root: root, Actions: actions, User: m.caps.Owner != backends.ID}
	job.Upper, job.Work, job.Target = scratch+"/upper", scratch+"/work", scratch+"/root"
	for _, dir := range []string{job.Upper, job.Work, job.Target} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			tb.Fatal(err)
		}
	}
	dir, err := os.Open(job.Upper)
	if err != nil {
		tb.Fatal(err)
	}
	defer dir.Close()
	if err := root.Fill(dir); err != nil {
		tb.Fatal(err)
	}
	job.Root.Fill = nil
	text, err := json.Marshal(struct {
		childJob
		Root struct {
			Lowers []backends.Layer
			Data   string
			Binds  []backends.Bind
		}
	}{job, struct {
		Lowers []backends.Layer
		Data   string
		Binds  []backends.Bind
	}{root.Lowers, root.Data, root.Binds}})
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	// The race detector would sleep for a second when the child ends.
	cmd.Env = append(os.Environ(), childVariable+"="+string(text), "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if job.User {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		tb.Fatalf("in the root: %v\n%s%s", err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.String()
}

// snapshot returns everything that is to be known of a directory tree.
func snapshot(tb testing.TB, dir string) string {
	tb.Helper()
	var b bytes.Buffer
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		line, err := describe(path)
		fmt.Fprintf(&b, "%s %s\n", path, line)
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return b.String()
}
