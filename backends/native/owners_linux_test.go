package native

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-action/sbx-action/backends"
)

// ownerScripts are what real builds do, and what a recorder gets wrong. Each runs
// in an empty directory, here and under fakeroot, and must print the same. $BB is a
// static busybox: what is in it is answered in no other way.
var ownerScripts = map[string]string{
	"chown":         `touch a; mkdir d; ln -s a l; chown 5:7 a; chown 8 d; chown -h 9:9 l; chgrp 3 a; stat -c '%n %u:%g %a %F' a d l`,
	"keep":          `touch a; chown 5:7 a; chown 6 a; chown :8 a; stat -c '%u:%g' a; chown 0:0 a; stat -c '%u:%g' a`,
	"recursive":     `mkdir -p d/e/f; touch d/x d/e/y; ln -s x d/l; chown -R 12:34 d; find d | sort | xargs stat -c '%n %u:%g'`,
	"through link":  `touch a; ln -s a l; chown 4 l; stat -c '%n %u' a l; stat -L -c %u l`,
	"mknod":         `mknod c c 1 3; mknod b b 8 17; mknod -m 600 t c 300 70000; mkfifo p; stat -c '%n %F %a %t:%T %u' b c p t`,
	"mknod twice":   `mknod c c 1 3; mknod c c 1 5 2>/dev/null; echo $?; stat -c '%t:%T' c; mknod no/c c 1 3 2>/dev/null; echo $?`,
	"install":       `echo x >s; install -m 4755 -o 1 -g 2 s i; install -d -o 3 -m 2775 d; stat -c '%n %u:%g %a' i d`,
	"set-id bits":   `touch a; chmod 6755 a; chown 5 a; stat -c %a a; chmod u+s a; stat -c '%a %u' a`,
	"copy":          `mknod c c 1 3; touch a; chown 5:6 a; chmod 4711 a; mkdir d; cp -a a c d; stat -c '%n %u:%g %a %F' d/*`,
	"tar":           `mkdir d; mknod d/c c 5 1; touch d/a; chown 5:6 d/a; chown 7 d; tar --sort=name -cf t d; mkdir n; tar xpf t -C n; tar tvf t --numeric-owner | sed 's/ 20.*:.. / /'; stat -c '%n %u:%g %F' n/d n/d/*`,
	"tar xattrs":    `mkdir d; touch d/a; chown 5 d/a; tar --xattrs --acls -cf t d; tar --xattrs -xpf t -C d; stat -c '%u' d/d/a`,
	"cpio":          `command -v cpio >/dev/null || exit 0; touch a; mknod c c 1 3; chown 5:6 a; printf 'a\nc\n' | cpio --quiet -o -H newc >x; mkdir d; cd d; cpio --quiet -id <../x; stat -c '%n %u:%g %F' a c`,
	"hard link":     `touch a; ln a b; chown 5 a; stat -c '%u %h' b; rm a; stat -c '%u %h' b; ln b c; chown 6 c; stat -c %u b`,
	"rename":        `touch a b; chown 5 a; chown 6 b; mv a x; stat -c %u x; mv -f x b; stat -c %u b; touch a; stat -c %u a`,
	"rename dir":    `mkdir -p d/e; chown 5 d/e; touch d/e/f; chown 6 d/e/f; mv d z; stat -c '%n %u' z/e z/e/f`,
	"reuse":         `i=0; while [ $i -lt 60 ]; do touch a; chown 5 a; rm a; touch b; stat -c %u b; rm b; i=$((i+1)); done | sort | uniq -c | tr -s ' '`,
	"reuse dir":     `i=0; while [ $i -lt 30 ]; do mkdir a; chown 5 a; rmdir a; mkdir b; stat -c %u b; rmdir b; i=$((i+1)); done | sort -u`,
	"static":        `$BB touch a; $BB chown 33:44 a; $BB mknod n b 8 1; $BB chown -h 1 a; $BB stat -c '%n %u:%g %F %t:%T' a n; $BB tar cf t a n; $BB mkdir d; $BB tar xf t -C d; $BB stat -c '%n %u:%g %F' d/a d/n`,
	"mixed":         `$BB touch a; chown 33 a; $BB stat -c %u a; stat -c %u a; $BB chown 34 a; stat -c %u a`,
	"test":          `mknod c c 1 3; mknod b b 1 3; touch f; for x in c b f; do [ -c $x ] && echo $x c; [ -b $x ] && echo $x b; [ -f $x ] && echo $x f; [ -O $x ] && echo $x O; done; chown 5 f; [ -O f ] || echo not mine`,
	"who":           `id -u; id -g; id -un; touch a; stat -c '%U:%G' a; chown daemon:adm a; stat -c '%U:%G %u:%g' a`,
	"numbers":       `touch a; chown 65534:65535 a; stat -c '%u:%g' a; chown 4294967294:100000 a; stat -c '%u:%g' a`,
	"not there":     `chown 5 no 2>/dev/null; echo $?; touch f; chown 5 f/x 2>/dev/null; echo $?; chown -h 5 no 2>/dev/null; echo $?`,
	"unreadable":    `echo hello >a; chmod 0 a; cat a; echo more >>a; mkdir d; chmod 0 d; touch d/x; ls d; stat -c %n d/x`,
	"perl":          `perl -e 'open F,">a"; chown 5,6,*F; @s=stat F; print "$s[4] $s[5]\n"; @s=lstat "a"; print "$s[4] $s[5]\n"; chown -1,8,"a"; @s=stat "a"; print "$s[4] $s[5]\n"; chdir "/"; @s=stat F; print "$s[4]\n"'`,
	"descriptor":    `touch a; chown 5:6 a; exec 3<a; stat -L -c '%u:%g' /proc/self/fd/3; cd /; stat -L -c '%u:%g' /dev/fd/3`,
	"dpkg-deb":      `mkdir -p p/DEBIAN p/usr/bin; printf 'Package: x\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.c>\nDescription: x\n' >p/DEBIAN/control; echo x >p/usr/bin/x; chown 5:6 p/usr/bin/x; chmod 4755 p/usr/bin/x; dpkg-deb -b p x.deb >/dev/null; dpkg-deb -c x.deb | sed 's/ 20.*:.. / /'; mkdir o; dpkg-deb -x x.deb o; stat -c '%u:%g %a' o/usr/bin/x`,
	"own user":      `setpriv --reuid 5 --regid 5 --clear-groups true; echo $?`,
	"deleted, open": `touch a; chown 5 a; exec 3<>a; rm a; touch b; stat -c %u b; exec 3<&-; touch c; stat -c %u c`,
	"many":          `i=0; while [ $i -lt 400 ]; do touch f$i; i=$((i+1)); done; chown 7:8 f*; stat -c '%u:%g' f* | sort | uniq -c | tr -s ' '; rm f?; touch f1 f2; stat -c %u f1 f2 f10`,
}

// asRoot is what root sees, where fakeroot does something else.
var asRoot = map[string]string{
	"own user":    "0\n",
	"unreadable":  "hello\nx\nd/x\n",
	"descriptor":  "5:6\n5:6\n",
	"mknod twice": "1\n1:3\n1\n",
	"set-id bits": "755\n4755 5\n",
}

// TestOwnersAsFakeroot compares what a command sees with what fakeroot shows it,
// which for dynamic programs has the same rules.
func TestOwnersAsFakeroot(t *testing.T) {
	if testing.Short() {
		return // it is tested elsewhere
	}
	fakeroot, err := exec.LookPath("fakeroot")
	if err != nil {
		t.Fatal("this test needs fakeroot: apt-get install fakeroot")
	}
	b := openNative(t)
	for name, script := range ownerScripts {
		t.Run(name, func(t *testing.T) {
			got, st := output(t, b, owned(script))
			if st.Code != 0 && !strings.HasSuffix(script, "echo $?") {
				t.Fatalf("exit %d: %s", st.Code, got)
			}
			outside := script
			if strings.Contains(script, "$BB") { // fakeroot cannot: the same program, but dynamic
				outside = strings.ReplaceAll(script, "$BB ", "")
			}
			if want, ok := asRoot[name]; ok {
				if got != want {
					t.Errorf("got %q, want %q", got, want)
				}
				return
			}
			cmd := exec.Command(fakeroot, "sh", "-c", "umask 022; "+outside)
			cmd.Dir, cmd.Env = t.TempDir(), []string{"PATH=/usr/bin:/bin"}
			want, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("the control under fakeroot: %v\n%s", err, want)
			}
			if got != string(want) {
				t.Errorf("got\n%swant, as under fakeroot,\n%s", got, want)
			}
		})
	}
}

func openNative(t *testing.T) *Backend {
	b, err := Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// owned is a script for a command with recorded owners. It has the host's names of users.
func owned(script string) *backends.Spec {
	spec := shell(script)
	spec.Owners, spec.KeepRoot = true, true
	spec.Env = append(spec.Env, "BB=busybox")
	for _, f := range []string{"/etc/passwd", "/etc/group"} {
		spec.Root.Binds = append(spec.Root.Binds, backends.Bind{Source: f, Target: f})
	}
	return spec
}

// TestOwnersLeft: what is told of the root is what the command has left of it, and
// nothing in it is dangerous.
func TestOwnersLeft(t *testing.T) {
	b := openNative(t)
	spec := owned(`mkdir d; chown 3 d; touch d/f gone moved; chown 5:6 d/f gone moved; rm gone; mv moved here; ln here other; ` +
		`mknod c c 1 3; mknod b b 8 1; touch back; chown 9 back; chown 0:0 back; ln -s x l; chown -h 2 l; cp /usr/bin/true su; chmod 4755 su`)
	st, err := b.Run(t.Context(), spec)
	if err != nil || st.Code != 0 {
		t.Fatal(st, err)
	}
	defer st.Root.Close()
	list := map[string]backends.Owned{}
	for _, o := range st.Owned {
		if o.UID|o.GID|o.Kind == 0 {
			continue
		}
		var stat unix.Stat_t
		if err := unix.Fstatat(int(st.Root.Fd()), strings.TrimPrefix(o.Path, "/"), &stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			t.Fatalf("%s: %v", o.Path, err)
		}
		if stat.Ino != o.Inode || stat.Dev != o.Device {
			t.Errorf("%s is inode %d:%d, not %d:%d", o.Path, stat.Dev, stat.Ino, o.Device, o.Inode)
		}
		if int(stat.Uid) != b.Capabilities().Owner {
			t.Errorf("%s really belongs to %d", o.Path, stat.Uid)
		}
		if kind := stat.Mode & unix.S_IFMT; kind == unix.S_IFCHR || kind == unix.S_IFBLK {
			t.Errorf("%s is a real device", o.Path)
		}
		list[path.Base(o.Path)] = backends.Owned{UID: o.UID, GID: o.GID, Kind: o.Kind, Major: o.Major, Minor: o.Minor}
	}
	if _, ok := list["other"]; ok { // one of the two names
		list["here"] = list["other"]
		delete(list, "other")
	}
	want := map[string]backends.Owned{
		"d": {UID: 3}, "f": {UID: 5, GID: 6}, "here": {UID: 5, GID: 6}, "l": {UID: 2},
		"c": {Kind: unix.S_IFCHR, Major: 1, Minor: 3}, "b": {Kind: unix.S_IFBLK, Major: 8, Minor: 1},
	}
	if len(list) != len(want) {
		t.Errorf("got %v", list)
	}
	for name, w := range want {
		if list[name] != w {
			t.Errorf("%s: got %+v, want %+v", name, list[name], w)
		}
	}
}

// TestOwnersKnown: what belongs to others before does so for the command.
func TestOwnersKnown(t *testing.T) {
	b := openNative(t)
	spec := owned(`stat -c '%n %u:%g %F %t:%T' /have /node; chown 0 /have; stat -c %u /have`)
	fill := spec.Root.Fill
	spec.Root.Fill = func(dir *os.File) error {
		for _, name := range []string{"have", "node"} {
			fd, err := unix.Openat(int(dir.Fd()), name, unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
			if err != nil {
				return err
			}
			if os.Geteuid() == 0 {
				err = unix.Fchown(fd, backends.ID, backends.ID)
			}
			unix.Close(fd)
			if err != nil {
				return err
			}
		}
		return fill(dir)
	}
	spec.Root.Owned = []backends.Owned{
		{Path: "/have", UID: 41, GID: 42},
		{Path: "/node", Kind: unix.S_IFBLK, Major: 8, Minor: 5},
		{Path: "/missing", UID: 1},
	}
	if got, _ := output(t, b, spec); got != "/have 41:42 regular empty file 0:0\n/node 0:0 block special file 8:5\n0\n" {
		t.Errorf("got %q", got)
	}
}

// TestOwnersObserved: look-ups are observed as without.
func TestOwnersObserved(t *testing.T) {
	b := openNative(t)
	for i := range 2 { // the second time in a slot that is prepared for something else
		spec := owned(`test -e /no/such/file; touch a; chown 5 a; stat -c %u a`)
		spec.Observe = true
		got, st := output(t, b, spec)
		if got != "5\n" {
			t.Errorf("run %d: got %q", i, got)
		}
		found := false
		for _, l := range st.Lookups {
			found = found || l.Path == "/no/such/file"
		}
		if !found || !st.Complete {
			t.Errorf("run %d: complete %v, found %v, of %d", i, st.Complete, found, len(st.Lookups))
		}
		plain := shell("id -u")
		if got, _ := output(t, b, plain); got != "65000\n" {
			t.Errorf("the next command is user %q", got)
		}
		observed := shell("id -u")
		observed.Observe = true
		if got, _ := output(t, b, observed); got != "65000\n" {
			t.Errorf("the next observed command is user %q", got)
		}
	}
}

// TestOwnersNoPower: being root there is no power here.
func TestOwnersNoPower(t *testing.T) {
	b := openNative(t)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, script := range map[string]string{
		"mount":      "mount -t tmpfs x /mnt || mount --bind /usr /build",
		"chroot":     "chroot /usr /bin/true",
		"unshare":    "unshare -r true",
		"host name":  "hostname other",
		"device":     "mknod n c 1 5 && head -c 1 n | grep -q .",
		"disk":       "mknod n b 8 0 && head -c 1 n | grep -q .",
		"usr":        "touch /usr/x || chown 5 /usr/bin/env || chmod 777 /usr/bin/env",
		"host file":  "echo y >/secret || chown 5 /secret || rm /secret",
		"sysctl":     "echo 1 >/proc/sys/kernel/panic || echo x >/proc/sys/kernel/core_pattern",
		"pid 1":      "cat /proc/1/environ || ls -l /proc/1/fd || cat /proc/1/maps",
		"bounding":   `grep -q 'CapBnd:.*[^0]' /proc/self/status && ! grep -q 'CapBnd:	000000008000001a' /proc/self/status`,
		"privileges": `! grep -q 'NoNewPrivs:	1' /proc/self/status`,
	} {
		spec := owned(script)
		spec.Root.Binds = append(spec.Root.Binds, backends.Bind{Source: secret, Target: "/secret"})
		if got, st := output(t, b, spec); st.Code == 0 {
			t.Errorf("%s: it could: %s", name, got)
		}
	}
	if data, err := os.ReadFile(secret); err != nil || string(data) != "x" {
		t.Errorf("%q, %v", data, err)
	}
}

// TestOwnersLimits: it ends, and the slot goes on, as without owners.
func TestOwnersLimits(t *testing.T) {
	b := openNative(t)
	spec := owned("touch a; while :; do chown 5 a; stat a >/dev/null; done")
	spec.Limits.Wall = 300e6
	if _, st := output(t, b, spec); !st.TimedOut {
		t.Errorf("%+v", st)
	}
	if got, st := output(t, b, owned("touch a; chown 5 a; stat -c %u a; exit 3")); got != "5\n" || st.Code != 3 {
		t.Errorf("the next one: %q, %+v", got, st)
	}
	missing := owned("true")
	missing.Args = []string{"/no/such/program"}
	if _, st := output(t, b, missing); st.Code != 127 {
		t.Errorf("%+v", st)
	}
	missing = owned("true")
	missing.Dir = "/no/such/directory"
	if _, err := b.Run(t.Context(), missing); err == nil || !strings.Contains(err.Error(), "/no/such/directory") {
		t.Errorf("%v", err)
	}
}

// TestOwnersGivesRoomBack: a file that was given away and removed takes no room.
func TestOwnersGivesRoomBack(t *testing.T) {
	b := openNative(t)
	spec := owned(`i=0; while [ $i -lt 40 ]; do head -c 1000000 /dev/zero >a && chown 5 a && rm a || exit 1; j=0; while [ $j -lt 70 ]; do [ -e x ] || [ -f x ]; j=$((j+1)); done; i=$((i+1)); done`)
	spec.Limits.Scratch = 20 << 20
	if got, st := output(t, b, spec); st.Code != 0 {
		t.Errorf("exit %d: %s", st.Code, got)
	}
}

// TestOwnersOnDisk: a scratch on a disk uses inode numbers again.
func TestOwnersOnDisk(t *testing.T) {
	if testing.Short() {
		return // it is tested elsewhere
	}
	b := openNative(t)
	for _, name := range []string{"reuse", "reuse dir", "rename", "hard link", "copy", "many", "deleted, open"} {
		want, st := output(t, b, owned(ownerScripts[name]))
		if st.Code != 0 {
			t.Fatalf("%s: exit %d: %s", name, st.Code, want)
		}
		spec := owned(ownerScripts[name])
		spec.Root.ScratchDir = t.TempDir()
		if err := os.Chown(spec.Root.ScratchDir, b.Capabilities().Owner, b.Capabilities().Owner); err != nil {
			t.Fatal(err)
		}
		if got, _ := output(t, b, spec); got != want {
			t.Errorf("%s: got\n%swant\n%s", name, got, want)
		}
	}
}

// program32 is a program of 32 bits that changes an owner, in both ways that it may,
// makes a device, and exits with 0 if it sees what it did.
const program32 = `
static long call(long n, long a, long b, long c, long d, long e)
{
	long r;
	__asm__ volatile("push %%ebp; int $0x80; pop %%ebp" : "=a"(r) : "a"(n), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e) : "memory");
	return r;
}
static struct {
	unsigned long long dev;
	unsigned pad, short_ino, mode, nlink, uid, gid;
	unsigned long long rdev;
	char rest[56];
} __attribute__((packed)) s;
static unsigned x[64];
static void fail(int n) { call(1, n, 0, 0, 0, 0); }
void _start(void)
{
	call(8, (long)"x", 0644, 0, 0, 0); /* creat */
	if (call(212, (long)"x", 70000, 8, 0, 0)) fail(1); /* chown32 */
	if (call(195, (long)"x", (long)&s, 0, 0, 0) || s.uid != 70000 || s.gid != 8) fail(2); /* stat64 */
	if (call(16, (long)"x", 5, 0xffff, 0, 0)) fail(3); /* lchown */
	if (call(196, (long)"x", (long)&s, 0, 0, 0) || s.uid != 5 || s.gid != 8) fail(4); /* lstat64 */
	if (call(14, (long)"n", 020600, 0x103, 0, 0)) fail(5); /* mknod */
	if (call(300, -100, (long)"n", (long)&s, 0, 0) || s.mode != 020600 || s.rdev != 0x103) fail(6); /* fstatat64 */
	if (call(383, -100, (long)"x", 0, 0x7ff, (long)x) || x[5] != 5) fail(7); /* statx */
	if (call(213, 7, 0, 0, 0, 0) || call(199, 0, 0, 0, 0, 0)) fail(8); /* setuid32, getuid32 */
	fail(0);
}
`

// TestOwners32: programs of 32 bits have other calls, which are answered, too.
func TestOwners32(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		return // nobody else runs them
	}
	dir := t.TempDir()
	source, program := filepath.Join(dir, "p.c"), filepath.Join(dir, "p")
	if err := os.WriteFile(source, []byte(program32), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("gcc", "-m32", "-O1", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-fno-pic", "-no-pie",
		"-fomit-frame-pointer", "-o", program, source).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, observed := range []bool{false, true} {
		b := openNative(t)
		spec := owned("/p && stat -c '%u:%g' x && stat -c '%F' n")
		spec.Observe = observed
		spec.Root.Binds = append(spec.Root.Binds, backends.Bind{Source: program, Target: "/p"})
		if got, st := output(t, b, spec); st.Code != 0 || got != "5:8\ncharacter special file\n" {
			t.Errorf("observed %v: exit %d, %q", observed, st.Code, got)
		}
	}
}

// TestOwnersOneInode: in a layer, files with the same contents are one; their owners
// are not.
func TestOwnersOneInode(t *testing.T) {
	b := openNative(t)
	if !b.Capabilities().Overlay {
		t.Log("no layers here")
		return
	}
	layer := t.TempDir()
	for i, name := range []string{"a", "b", "c", "d"} {
		var err error
		if i == 0 {
			err = os.WriteFile(filepath.Join(layer, name), nil, 0o644)
		} else {
			err = os.Link(filepath.Join(layer, "a"), filepath.Join(layer, name))
		}
		if err == nil {
			err = os.Symlink("a", filepath.Join(layer, "l"+name))
		}
		if err == nil && os.Geteuid() == 0 {
			err = os.Lchown(filepath.Join(layer, name), backends.ID, backends.ID)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	spec := owned("stat -c '%n %u %F' /a /b /c /d /la; chown 7 /c; chown -h 8 /lb; stat -c '%n %u' /a /b /c /d /la /lb; mv /lb /lz; mv /c /z; stat -c '%n %u' /lz /z")
	spec.Root.Lowers = []backends.Layer{{Dir: layer}}
	spec.Root.Owned = []backends.Owned{
		{Path: "/a", UID: 5},
		{Path: "/b", Kind: unix.S_IFCHR, Major: 1, Minor: 3},
		{Path: "/la", UID: 6},
	}
	want := "/a 5 regular empty file\n/b 0 character special file\n/c 0 regular empty file\n/d 0 regular empty file\n/la 6 symbolic link\n" +
		"/a 5\n/b 0\n/c 7\n/d 0\n/la 6\n/lb 8\n/lz 8\n/z 7\n"
	if got, _ := output(t, b, spec); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
