package remote

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// An Address names an instance of a server.
type Address struct {
	TLS      bool
	Host     string // with a port; or the path of a unix socket
	Unix     bool
	Instance string
}

// ParseAddress parses grpc://HOST:PORT/INSTANCE, grpcs://HOST:PORT/INSTANCE
// (with TLS), or unix:PATH. Without a port it is 8980, and 443 with TLS.
func ParseAddress(s string) (Address, error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		path = "/" + strings.TrimLeft(path, "/")
		if path == "/" {
			return Address{}, fmt.Errorf("address %q: no path of a socket", s)
		}
		return Address{Host: path, Unix: true}, nil
	}
	const want = "want grpc://HOST:PORT/INSTANCE, or grpcs:// for TLS"
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return Address{}, fmt.Errorf("address %q: %s", s, want)
	case u.Scheme != "grpc" && u.Scheme != "grpcs":
		return Address{}, fmt.Errorf("address %q: %s", s, want)
	case u.Hostname() == "":
		return Address{}, fmt.Errorf("address %q: no host: %s", s, want)
	case u.User != nil:
		return Address{}, fmt.Errorf("address of %s: no user or password in an address: they would be seen in lists of processes; give a header instead", u.Hostname())
	case u.RawQuery != "" || u.Fragment != "":
		return Address{}, fmt.Errorf("address %q: a %q after the instance: %s", s, s[strings.IndexAny(s, "?#"):], want)
	}
	a := Address{TLS: u.Scheme == "grpcs", Host: u.Host, Instance: strings.Trim(u.Path, "/")}
	if u.Port() == "" {
		a.Host = strings.TrimSuffix(a.Host, ":") + ":8980"
		if a.TLS {
			a.Host = strings.TrimSuffix(u.Host, ":") + ":443"
		}
	} else if n, err := strconv.Atoi(u.Port()); err != nil || n < 1 || n > 65535 {
		return Address{}, fmt.Errorf("address %q: port %s is not from 1 to 65535", s, u.Port())
	}
	return a, CheckInstance(a.Instance)
}

// reserved are the names that tell the parts of a resource name apart.
var reserved = []string{"blobs", "uploads", "actions", "actionResults", "operations", "capabilities", "compressed-blobs"}

// CheckInstance says why name cannot be that of an instance, or nil.
func CheckInstance(name string) error {
	if name == "" {
		return nil
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" {
			return fmt.Errorf("instance %q: an empty part", name)
		}
		if slices.Contains(reserved, part) {
			return fmt.Errorf("instance %q: %q has a meaning of its own in the protocol", name, part)
		}
	}
	return nil
}

// String is what ParseAddress parses.
func (a Address) String() string {
	switch {
	case a.Unix:
		return "unix:" + a.Host
	case a.TLS:
		return strings.TrimSuffix("grpcs://"+a.Host+"/"+a.Instance, "/")
	}
	return strings.TrimSuffix("grpc://"+a.Host+"/"+a.Instance, "/")
}

// target is the address as gRPC wants it.
func (a Address) target() string {
	if a.Unix {
		return "unix:" + a.Host
	}
	return "dns:///" + a.Host
}
