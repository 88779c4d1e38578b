package staging

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
	"github.com/sbx-action/sbx-action/internal/erofs"
)

// HostOptions say what else a view of the host shows.
type HostOptions struct {
	// Network adds what programs need to reach others by name:
	// /etc/resolv.conf and the certificates that the host trusts.
	Network bool
}

// HostRootfs is a read-only view of the host's system directories, with an
// /etc that holds nothing of this machine or its users:
//
//   - /usr, /opt, /nix/store and /gnu/store where they exist; /bin, /sbin and /lib* as on
//     the host, where most are links into /usr;
//   - of /etc, what programs from packages read to work at all, and what the
//     package system made: the loader's cache, alternatives, and the
//     configuration of the interpreters, compilers and document tools listed
//     in etcFiles and etcDirs; of /var/lib, the registries of such tools;
//   - passwd, group, hosts and nsswitch.conf of our own, the same everywhere;
//   - empty directories /home, /root and /var/tmp.
//
// Absent are /etc/localtime (so that the time zone is UTC), shadow, machine-id,
// hostname, /var, /run, /sys, and with them everything that differs between
// two machines with the same packages.
func HostRootfs(o HostOptions) Rootfs {
	if o.Network {
		return Rootfs{host: hostWithNetwork}
	}
	return Rootfs{host: hostAlone}
}

// ForgetHost makes the next [HostRootfs] look at the host anew. Nobody may be using
// one meanwhile.
func ForgetHost() { hostAlone, hostWithNetwork = &hostView{}, &hostView{network: true} }

var (
	hostAlone       = &hostView{}
	hostWithNetwork = &hostView{network: true}
)

// hostVersion changes with everything below that a command can see.
const hostVersion = "2"

// names are some names, and the beginnings of others. The whole ones are sorted.
type names struct{ whole, starts []string }

func (n names) has(name string) bool {
	if _, ok := slices.BinarySearch(n.whole, name); ok {
		return true
	}
	return slices.ContainsFunc(n.starts, func(start string) bool { return strings.HasPrefix(name, start) })
}

// Names in /etc and /var/lib that the view shows. A file, or a link, that
// others may read is copied when it changes; a directory is shown as it is. Each
// directory that is there costs every miss 15 µs, so only those are listed that
// builds read.
var (
	etcFiles = names{
		[]string{
			"SuSE-release", "alpine-release", "arch-release", "debian_version", "dmd.conf", "fedora-release", "fpc.cfg",
			"ld.so.cache", "ld.so.conf", "ldc2.conf", "libao.conf", "locale.alias", "lsb-release", "magic", "magic.mime",
			"manpath.config", "mime.types", "ocamlfind.conf", "os-release", "papersize", "paperspecs", "protocols",
			"redhat-release", "rpc", "services",
		},
		[]string{"ld-musl-", "fpc-"},
	}
	etcDirs = names{
		[]string{
			"OpenCL", "R", "alternatives", "ant", "dotnet", "fonts", "ghostscript", "ld.so.conf.d", "maven", "mono", "ocaml",
			"perl", "php", "texlive", "texmf", "xml",
		},
		[]string{"java", "ImageMagick-", "octave"},
	}
	certDirs = []string{"/etc/ssl/certs", "/etc/pki/tls/certs", "/etc/pki/ca-trust/extracted"} // with Network
	varDirs  = []string{"ghc", "texmf", "ghostscript"}
)

// opensslConfig is harmless; the keys in the same directory are not.
const opensslConfig = "ssl/openssl.cnf"

// etcOwn are the files of /etc that we write.
var etcOwn = map[string]string{
	"passwd": "root:x:0:0:root:/root:/bin/sh\n" +
		"build:x:65000:65000:build:/build:/bin/sh\n" +
		"nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
	"group":         "root:x:0:\nbuild:x:65000:\nnogroup:x:65534:\n",
	"hosts":         "127.0.0.1 localhost sbx\n::1 localhost ip6-localhost ip6-loopback\n",
	"nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files\nservices: files\nprotocols: files\n",
}

const nsswitchNetwork = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\nprotocols: files\n"

// A hostView knows what of the host is shown. What exists is looked up once: see
// [Stager.know].
type hostView struct {
	root    string // in tests: the directory that plays the host
	network bool
	once    sync.Once
	err     error
	binds   []backends.Bind   // directories, each at its own path
	links   map[string]string // in the root directory, with their targets
	files   []string          // in /etc, to be copied
}

func (h *hostView) id() string {
	if h.network {
		return "host+network/" + hostVersion
	}
	return "host/" + hostVersion
}

// look finds out what the host has.
func (h *hostView) look() error {
	h.once.Do(h.lookNow)
	return h.err
}

func (h *hostView) lookNow() {
	h.links = map[string]string{}
	h.err = errors.Join(h.lookRoot(), h.lookEtc(), h.lookVar())
}

func (h *hostView) lookRoot() error {
	list, err := os.ReadDir(h.root + "/")
	if err != nil {
		return err
	}
	for _, e := range list {
		name := e.Name()
		if !topLevel(name) {
			continue
		}
		switch e.Type() {
		case os.ModeDir:
			// What else is in /nix and /gnu is alive: daemons listen there.
			if storeOnly(name) {
				name += "/store"
			}
			if info, err := os.Lstat(h.root + "/" + name); err == nil && info.IsDir() {
				h.bind("/" + name)
			}
		case os.ModeSymlink:
			if h.links["/"+name], err = os.Readlink(h.root + "/" + name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (h *hostView) bind(path string) {
	h.binds = append(h.binds, backends.Bind{Source: h.root + path, Target: path})
}

func (h *hostView) lookEtc() error {
	list, err := os.ReadDir(h.root + "/etc")
	if err != nil {
		return err
	}
	for _, e := range list {
		switch {
		case e.IsDir() && etcDirs.has(e.Name()):
			h.bind("/etc/" + e.Name())
		case !e.IsDir() && etcFiles.has(e.Name()), h.network && e.Name() == "resolv.conf":
			h.files = append(h.files, e.Name())
		}
	}
	h.files = append(h.files, opensslConfig)
	if h.network {
		for _, dir := range certDirs {
			if info, err := os.Lstat(h.root + dir); err == nil && info.IsDir() {
				h.bind(dir)
			}
		}
	}
	return nil
}

func (h *hostView) lookVar() error {
	for _, name := range varDirs {
		if info, err := os.Lstat(h.root + "/var/lib/" + name); err == nil && info.IsDir() {
			h.bind("/var/lib/" + name)
		}
	}
	return nil
}

// path returns where on the host p is, if it is of the host: also when nothing
// is there now, but would be shown if it were.
func (h *hostView) path(p string) (string, bool) {
	first, rest, _ := strings.Cut(p[1:], "/")
	second, third, deeper := strings.Cut(rest, "/")
	third, _, _ = strings.Cut(third, "/")
	shown := false
	switch {
	case first == "etc" && second != "":
		shown = !deeper && etcFiles.has(second) || etcDirs.has(second) || h.showsRest(p)
	case first == "var" && third != "":
		shown = second == "lib" && slices.Contains(varDirs, third)
	default:
		shown = topLevel(first) && (!storeOnly(first) || second == "store")
	}
	if !shown {
		return "", false
	}
	if first == "etc" && (!deeper && etcFiles.has(second) || h.showsRest(p)) {
		return behindLink(h.root + p), true
	}
	return h.root + p, true
}

// showsRest says whether p is one of the few things with a rule of its own.
func (h *hostView) showsRest(p string) bool {
	if p == "/etc/"+opensslConfig {
		return true
	}
	return h.network && (p == "/etc/resolv.conf" || slices.ContainsFunc(certDirs, func(dir string) bool {
		return p == dir || strings.HasPrefix(p, dir+"/")
	}))
}

// topLevel says whether a name in the root directory is of the host.
// storeOnly says whether only the directory store of name is shown.
func storeOnly(name string) bool { return name == "nix" || name == "gnu" }

func topLevel(name string) bool {
	switch name {
	case "usr", "bin", "sbin", "opt", "nix", "gnu":
		return true
	}
	return strings.HasPrefix(name, "lib")
}

// stageHost returns what shows the host.
func (s *Stager) stageHost(ctx context.Context, h *hostView) (piece, error) {
	if err := s.know(ctx, h); err != nil {
		return piece{}, err
	}
	p := piece{fill: make([]placement, 0, len(h.links)+3)}
	for path, target := range h.links {
		p.fill = append(p.fill, fillNode{kind: erofs.Symlink, target: target}.at(path))
	}
	slices.SortFunc(p.fill, func(a, b placement) int { return strings.Compare(a.path, b.path) })
	for _, dir := range []string{"/home", "/root", "/var/tmp"} {
		p.fill = append(p.fill, emptyDir().at(dir))
	}
	if s.Layers == nil {
		etc, err := h.etc()
		p.fill = append(p.fill, etc.at("/etc"))
		p.binds = h.binds
		return p, err
	}
	dir, err := s.etcLayer(ctx, h)
	if err != nil {
		return piece{}, err
	}
	// The layer first: the directories in it are the places of other binds.
	p.binds = append([]backends.Bind{{Source: dir, Target: "/etc"}}, h.binds...)
	return p, nil
}

// etcLayer returns a directory for /etc, which it makes anew when one of the
// host's files in it has changed.
func (s *Stager) etcLayer(ctx context.Context, h *hostView) (string, error) {
	var b strings.Builder
	fmt.Fprintln(&b, h.id(), s.owner(), h.root)
	for _, bind := range h.binds {
		fmt.Fprintf(&b, "%q\n", bind.Target)
	}
	var read *fillNode // the content of /etc, where its files are too fresh for their stat data to name it
	now := Now()
	for _, name := range h.files {
		id, err := StatPath(h.root+"/etc/"+name, FollowLinks)
		b.WriteString(strconv.Quote(name))
		if err != nil {
			b.WriteString(" absent\n")
			continue
		}
		for _, n := range [...]int64{int64(id.Dev), int64(id.Ino), int64(id.Mode), id.Size, id.MTime, id.CTime} {
			b.WriteString(" ")
			b.WriteString(strconv.FormatInt(n, 10))
		}
		b.WriteString("\n")
		if read != nil || settled(id.CTime, now, trustMargin) {
			continue
		}
		etc, err := h.etc()
		if err != nil {
			return "", err
		}
		read = &etc
	}
	if read != nil {
		read.describe(&b)
	}
	name := fmt.Sprintf("etc%s-%s", hostVersion, action.Sum(action.SHA256, []byte(b.String())).Hash())
	path, err := s.Layers.Layer(ctx, name)
	if err == nil {
		return path, nil
	}
	return s.Layers.PutLayer(ctx, name, nil, func(path string) error {
		if read == nil {
			etc, err := h.etc()
			if err != nil {
				return err
			}
			read = &etc
		}
		return s.makeEtc(path, read)
	})
}

// makeEtc makes the directory path, with what is in etc.
func (s *Stager) makeEtc(path string, etc *fillNode) error {
	if err := os.Mkdir(path, 0o755); err != nil {
		return err
	}
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	w := newPlacer(s.owner())
	for i := range etc.kids {
		if err := w.place(int(dir.Fd()), &etc.kids[i], false); err != nil {
			return fmt.Errorf("/etc/%s: %w", etc.kids[i].name, err)
		}
	}
	return errors.Join(w.own(int(dir.Fd()), 0o755), w.date(int(dir.Fd())))
}

// describe writes down all that n is.
func (n *fillNode) describe(b *strings.Builder) {
	fmt.Fprintf(b, "%q %v %v %q %q %d\n", n.name, n.kind, n.exec, n.target, n.data, len(n.kids))
	for i := range n.kids {
		n.kids[i].describe(b)
	}
}

// etc returns the content of /etc, with the places of the binds below it.
func (h *hostView) etc() (fillNode, error) {
	etc := emptyDir()
	for name, content := range etcOwn {
		if h.network && name == "nsswitch.conf" {
			content = nsswitchNetwork
		}
		etc.put(name, fillNode{kind: erofs.File, data: []byte(content)})
	}
	for _, name := range h.files {
		n, err := hostFile(h.root + "/etc/" + name)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
			continue
		}
		if err != nil {
			return fillNode{}, err
		}
		etc.put(name, n)
	}
	for _, b := range h.binds {
		if name, ok := strings.CutPrefix(b.Target, "/etc/"); ok {
			etc.put(name, emptyDir())
		}
	}
	return etc, nil
}

// put adds a node at a path below n, sorted by name.
func (n *fillNode) put(path string, kid fillNode) {
	first, rest, deeper := strings.Cut(path, "/")
	i, found := slices.BinarySearchFunc(n.kids, first, func(k fillNode, name string) int { return strings.Compare(k.name, name) })
	if !found {
		n.kids = slices.Insert(n.kids, i, fillNode{name: first, kind: erofs.Directory})
	}
	if deeper {
		n.kids[i].put(rest, kid)
		return
	}
	kid.name = first
	n.kids[i] = kid
}

// hostFile returns a node like a file of /etc that everybody may read. A link
// into /usr is kept, any other is replaced by what it shows.
func hostFile(path string) (fillNode, error) {
	if target, err := os.Readlink(path); err == nil && intoUsr(target) {
		return fillNode{kind: erofs.Symlink, target: target}, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return fillNode{}, err
	}
	if !info.Mode().IsRegular() || info.Mode()&0o004 == 0 {
		return fillNode{}, fmt.Errorf("%s: %w", path, os.ErrPermission)
	}
	data, err := os.ReadFile(path)
	return fillNode{kind: erofs.File, data: data, size: int64(len(data))}, err
}

// intoUsr says whether a link in /etc with this target leads into /usr.
func intoUsr(target string) bool {
	if !filepath.IsAbs(target) {
		target = filepath.Join("/etc", target)
	}
	return strings.HasPrefix(target, "/usr/")
}

// behindLink returns the file that is shown at path, in /etc: another one where
// that is a link which [hostFile] replaces. It must be looked at in its place, or
// a change of what the link shows would go unseen.
func behindLink(path string) string {
	target, err := os.Readlink(path)
	if err != nil || intoUsr(target) {
		return path
	}
	file, err := filepath.EvalSymlinks(path)
	if err != nil {
		return path
	}
	return file
}
