package wiring

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/sbx-action/sbx-action/cmd/commandline"
	"github.com/sbx-action/sbx-action/integration/reapi/share"
)

// Remote are the flags that name a remote cache, or a cluster.
type Remote struct {
	Address  string // empty: none
	Mode     string // read, write or both
	Exec     string // first or race; else nothing is executed there
	Timeout  commandline.Span
	Platform commandline.List
}

// Declare declares the flags.
func (r *Remote) Declare(flags *flag.FlagSet) {
	r.DeclareCache(flags)
	flags.StringVar(&r.Exec, "remote-exec", "", "`HOW` misses are executed by the remote, a cluster: first, and here if it fails,\nor race, there and here at once; off is the default (or $SBX_REMOTE_EXEC)")
	flags.Var(&r.Platform, "remote-platform", "`NAME=VALUE` that the cluster's workers want, in the place of what this program\nsays of the platform; may be repeated")
}

// DeclareCache is Declare without what is about execution.
func (r *Remote) DeclareCache(flags *flag.FlagSet) {
	flags.StringVar(&r.Address, "remote", "", "`ADDRESS` of a cache that is shared, grpc://HOST:PORT/INSTANCE or grpcs://…: misses\nare looked for there, results are sent there (default: $SBX_REMOTE)")
	flags.StringVar(&r.Mode, "remote-mode", "", "`MODE`: read, write, or both (default: $SBX_REMOTE_MODE, else both)")
	flags.Var(&r.Timeout, "remote-timeout", "`DURATION` in which the remote must answer, or else it is done without (default:\n$SBX_REMOTE_TIMEOUT, else 2s)")
}

// Settle adds what the environment says, and checks everything. Without a
// remote, Address is empty then.
func (r *Remote) Settle() error {
	for _, v := range []struct {
		to   *string
		name string
	}{{&r.Address, "SBX_REMOTE"}, {&r.Mode, "SBX_REMOTE_MODE"}, {&r.Exec, "SBX_REMOTE_EXEC"}} {
		if *v.to == "" {
			*v.to = os.Getenv(v.name)
		}
	}
	if r.Address == "" || r.Address == "off" {
		if r.Exec != "" && r.Exec != "off" {
			return fmt.Errorf("--remote-exec %s: where? Give --remote grpc://HOST:PORT/INSTANCE", r.Exec)
		}
		r.Address = ""
		return nil
	}
	if err := share.CheckAddress(r.Address); err != nil {
		return fmt.Errorf("--remote: %w", err)
	}
	if r.Mode == "" {
		r.Mode = "both"
	}
	if !slices.Contains([]string{"read", "write", "both"}, r.Mode) {
		return fmt.Errorf("--remote-mode %q: there are read, write and both", r.Mode)
	}
	if !slices.Contains([]string{"", "off", "first", "race"}, r.Exec) {
		return fmt.Errorf("--remote-exec %q: there are off, first and race", r.Exec)
	}
	if r.Timeout == 0 {
		r.Timeout = commandline.Span(2 * time.Second)
		if v := os.Getenv("SBX_REMOTE_TIMEOUT"); v != "" {
			if err := r.Timeout.Set(v); err != nil {
				return fmt.Errorf("SBX_REMOTE_TIMEOUT: %w", err)
			}
		}
	}
	if err := share.CheckPlatform(r.Platform); err != nil {
		return fmt.Errorf("--remote-platform %w", err)
	}
	return nil
}

// Executes says whether misses are executed there.
func (r *Remote) Executes() bool { return r.Exec == "first" || r.Exec == "race" }

// Target is what an agent has to know of the remote, for the store in a directory.
func (r *Remote) Target(store string) (share.Target, error) {
	t := share.Target{Store: store, Address: r.Address, Timeout: time.Duration(r.Timeout)}
	for _, file := range []struct {
		to   *string
		name string
	}{
		{&t.CA, "SBX_REMOTE_CA"}, {&t.Cert, "SBX_REMOTE_CERT"}, {&t.Key, "SBX_REMOTE_KEY"}, {&t.Headers, "SBX_REMOTE_HEADERS"},
	} {
		if v := os.Getenv(file.name); v != "" { // the agent has another directory
			var err error
			if *file.to, err = filepath.Abs(v); err != nil {
				return t, fmt.Errorf("%s: %w", file.name, err)
			}
		}
	}
	return t, nil
}
