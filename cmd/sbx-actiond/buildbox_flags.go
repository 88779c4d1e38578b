package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/sbx-action/sbx-action/cmd/commandline"
	"github.com/sbx-action/sbx-action/integration/reapi/remote"
)

// buildboxConnection is how the storage is called, in the words of buildbox, whose worker
// passes on to the runner what it was given itself, and how often to try in any case.
type buildboxConnection struct {
	token    string
	retries  uint
	google   bool
	validate bool
}

func (c *buildboxConnection) declare(flags *flag.FlagSet, own *connection) {
	flags.StringVar(&own.ca, "server-cert", "", "the same as --tls-ca `FILE`")
	flags.StringVar(&own.cert, "client-cert", "", "the same as --tls-cert `FILE`")
	flags.StringVar(&own.key, "client-key", "", "the same as --tls-key `FILE`")
	flags.StringVar(&c.token, "access-token", "", "`FILE` with a token that every call shows, as 'authorization: Bearer …'")
	flags.UintVar(&c.retries, "retry-limit", 3, "`N`: how often to try again")
	flags.BoolVar(&c.google, "googleapi-auth", false, "cannot be done here")
	flags.BoolVar(&c.validate, "validate-parameters", false, "only say, by the exit code, whether there are such flags")
	for _, name := range []string{
		"retry-delay", "request-timeout", "min-throughput", "keepalive-time", "token-reload-interval", "load-balancing-policy", "log-directory",
	} {
		flags.String(name, "", "`VALUE`: not needed")
	}
}

// options are those of own with what c says.
func (c *buildboxConnection) options(own *connection) (remote.Options, error) {
	o, err := own.options()
	if err != nil {
		return o, err
	}
	if c.google {
		return o, errors.New("--googleapi-auth: accounts of Google are not known here: use --access-token FILE")
	}
	o.Attempts, o.Version = int(min(c.retries, 1000))+1, commandline.Version()
	if c.token == "" {
		return o, nil
	}
	token, err := os.ReadFile(c.token)
	if err != nil {
		return o, fmt.Errorf("--access-token: %w", err)
	}
	if o.Headers = maps.Clone(o.Headers); o.Headers == nil {
		o.Headers = map[string]string{}
	}
	o.Headers["authorization"] = "Bearer " + strings.TrimSpace(string(token))
	return o, nil
}

// tell leaves the reason why an action was not run, a status, where buildbox-worker looks
// for it, to tell its client.
func (f *buildboxFlags) tell(reason proto.Message, err error) error {
	data, failed := proto.Marshal(reason)
	if failed == nil {
		failed = commandline.WriteWhole(f.resultFile+".error-status", func(w io.Writer) error {
			_, err := w.Write(data)
			return err
		})
	}
	return errors.Join(err, failed)
}
