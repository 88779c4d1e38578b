package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/sbx-action/sbx-action/integration/reapi/remote"
)

// connection is the flags of those that call servers: what they show them.
type connection struct {
	ca, cert, key, headers string
}

func (c *connection) declare(flags *flag.FlagSet) {
	flags.StringVar(&c.ca, "tls-ca", "", "`FILE` with the certificates to trust, as PEM (default: the system's)")
	flags.StringVar(&c.cert, "tls-cert", "", "`FILE` with our certificate, for servers that want one")
	flags.StringVar(&c.key, "tls-key", "", "`FILE` with its key")
	flags.StringVar(&c.headers, "headers", "", "`FILE` with headers for every call, a line 'name: value' each, such as\n'authorization: Bearer …'")
}

// options are what a client needs of them.
func (c *connection) options() (remote.Options, error) {
	t, err := tlsConfig(c.ca, c.cert, c.key)
	if err != nil {
		return remote.Options{}, err
	}
	headers, err := readHeaders(c.headers)
	if err != nil {
		return remote.Options{}, fmt.Errorf("--headers: %w", err)
	}
	return remote.Options{TLS: t, Headers: headers}, nil
}

func tlsConfig(ca, cert, key string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("certificates to trust: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("certificates to trust: %s has none in PEM form", ca)
		}
	}
	if (cert == "") != (key == "") {
		return nil, errors.New("a certificate needs its key, and a key its certificate: give both")
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("our certificate: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

func readHeaders(file string) (map[string]string, error) {
	if file == "" {
		return nil, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	headers := map[string]string{}
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) == "" { // the line may be a secret: it is not shown
			return nil, fmt.Errorf("%s, line %d: want 'name: value'", file, n)
		}
		headers[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	return headers, lines.Err()
}

// address parses an address of a flag, which need not say grpc://.
func address(flag, s string) (remote.Address, error) {
	if s == "" {
		return remote.Address{}, fmt.Errorf("--%s is missing: give the server's address, such as grpc://HOST:PORT", flag)
	}
	if !strings.Contains(s, "://") && !strings.HasPrefix(s, "unix:") {
		s = "grpc://" + s
	}
	a, err := remote.ParseAddress(s)
	if err != nil {
		return a, fmt.Errorf("--%s: %w", flag, err)
	}
	return a, nil
}
