package execution

import (
	"cmp"
	"runtime"
	"slices"
	"strings"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"golang.org/x/sys/cpu"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/staging"
)

// NodeProperties are the properties of files that are honoured in inputs and
// can be asked for in outputs.
var NodeProperties = []string{"mtime", "unix_mode"}

// wants is what an action's platform asks for.
type wants struct {
	rootfs     staging.Rootfs
	properties []action.Property // sorted, with the root file system
}

// isas are the names of this machine's instruction sets in REAPI's platform.md:
// those of the program, which is as much as we know it can run, and the extensions
// that the processor has.
func isas() []string {
	var list []string
	switch runtime.GOARCH {
	case "amd64":
		list = []string{"x86-64", "x86-32"}
	case "arm64":
		list = []string{"arm-a64", "armv8", "arm-neon"}
	default:
		return []string{runtime.GOARCH}
	}
	for _, x := range []struct {
		name string
		has  bool
	}{
		{"x86-sse4.1", cpu.X86.HasSSE41},
		{"x86-sse4.2", cpu.X86.HasSSE42},
		{"x86-avx", cpu.X86.HasAVX},
		{"x86-avx2", cpu.X86.HasAVX2},
		{"x86-avx-512", cpu.X86.HasAVX512F},
		{"arm-sve", cpu.ARM64.HasSVE},
	} {
		if x.has {
			list = append(list, x.name)
		}
	}
	return list
}

// platform honours REAPI's platform.md: OSFamily and ISA must be what this
// machine is; rootfs and container-image name the root file system. Any other
// property is an error, unless the server was told to ignore it: an action that
// relies on it would give wrong results.
func (e *Engine) platform(instance string, p *repb.Platform) (wants, error) {
	var w wants
	rootfs, named := "", false
	for _, prop := range p.GetProperties() {
		name, value := prop.Name, prop.Value
		switch name {
		case "OSFamily":
			if !strings.EqualFold(value, "linux") {
				return w, unsuited(name, value, "linux")
			}
		case "ISA":
			if !slices.Contains(isas(), value) {
				return w, unsuited(name, value, strings.Join(isas(), " and "))
			}
		case action.OwnersProperty:
			if value != action.OwnersRecorded || !e.opts.Can.Owners {
				return w, unsuited(name, value, "no recorder of owners, or")
			}
		case staging.RootfsProperty, "container-image":
			if named && value != rootfs {
				return w, invalid("the platform names two root file systems, %q and %q", rootfs, value)
			}
			rootfs, named = value, true
			continue // the ID of what it means is what counts
		default:
			if !slices.Contains(e.opts.IgnoreProperties, name) && !slices.Contains(e.opts.IgnoreProperties, "*") {
				return w, invalid("platform property %q=%q is not known here: this server knows OSFamily, ISA, rootfs, container-image and owners; "+
					"leave it out, or start the server with --ignore-property %s", name, value, name)
			}
		}
		w.properties = append(w.properties, action.Property{Name: name, Value: value})
	}
	var err error
	if w.rootfs, err = e.opts.Rootfs(instance, rootfs); err != nil {
		return w, status.Errorf(codes.FailedPrecondition, "root file system %q: %v", rootfs, err)
	}
	w.properties = append(w.properties, action.Property{Name: staging.RootfsProperty, Value: w.rootfs.ID()})
	slices.SortFunc(w.properties, func(a, b action.Property) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Value, b.Value))
	})
	w.properties = slices.Compact(w.properties)
	return w, nil
}

// unsuited is the error of a platform that no worker of this server has.
func unsuited(name, value, have string) error {
	return status.Errorf(codes.FailedPrecondition, "platform property %s=%q: this server has %s only", name, value, have)
}
