package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/sbx-action/sbx-action/integration/reapi/access"
)

// tlsConfig is nil if no certificate was given. One that is renewed on the disk
// is used from the next connection on.
func (f *serveFlags) tlsConfig() (*tls.Config, error) {
	switch {
	case f.tlsCert == "" && f.tlsKey == "" && f.tlsClientCA == "":
		return nil, nil
	case f.tlsCert == "" || f.tlsKey == "":
		return nil, errors.New("--tls-cert and --tls-key belong together: give both")
	}
	pair := &keyPair{cert: f.tlsCert, key: f.tlsKey}
	if _, err := pair.get(nil); err != nil {
		return nil, fmt.Errorf("--tls-cert %s, --tls-key %s: %w", f.tlsCert, f.tlsKey, err)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: pair.get}
	if f.tlsClientCA == "" {
		return c, nil
	}
	pem, err := os.ReadFile(f.tlsClientCA)
	if err != nil {
		return nil, fmt.Errorf("--tls-client-ca: %w", err)
	}
	c.ClientCAs = x509.NewCertPool()
	if !c.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--tls-client-ca: %s holds no certificate in PEM", f.tlsClientCA)
	}
	c.ClientAuth = tls.RequireAndVerifyClientCert
	if f.access != "" { // there are other ways to say who one is
		c.ClientAuth = tls.VerifyClientCertIfGiven
	}
	return c, nil
}

// A keyPair is a certificate and its key in two files.
type keyPair struct {
	cert, key string

	mu     sync.Mutex
	loaded *tls.Certificate
	at     time.Time // the time of the newer file when they were read
}

func (p *keyPair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.at
	for _, name := range []string{p.cert, p.key} {
		if info, err := os.Stat(name); err == nil && info.ModTime().After(at) {
			at = info.ModTime()
		}
	}
	if p.loaded != nil && at.Equal(p.at) {
		return p.loaded, nil
	}
	c, err := tls.LoadX509KeyPair(p.cert, p.key)
	if err != nil {
		if p.loaded != nil {
			return p.loaded, nil // one of the two was not written yet
		}
		return nil, err
	}
	p.loaded, p.at = &c, at
	return p.loaded, nil
}

// accessList says who may do what, and refuses what nobody can mean: a server
// that the whole network can use, by accident.
func (f *serveFlags) accessList() (*access.List, error) {
	var list *access.List
	switch {
	case f.access != "":
		var err error
		if list, err = access.Open(f.access); err != nil {
			return nil, fmt.Errorf("--access: %w", err)
		}
	case f.tlsClientCA != "":
		list = access.Certificates()
	default:
		list = access.Anyone()
	}
	if f.allowAnyone || !list.ForAnybody() {
		return list, nil
	}
	addresses := f.listen
	if f.http != "" {
		addresses = append(addresses[:len(addresses):len(addresses)], f.http)
	}
	for _, a := range addresses {
		if !local(a) {
			return nil, fmt.Errorf("%s can be reached from elsewhere, and anybody could use this server: say who may with --access FILE or --tls-client-ca FILE, or give --allow-anyone", a)
		}
	}
	return list, nil
}

// local says whether only this machine can reach an address.
func local(address string) bool {
	if strings.HasPrefix(address, "unix:") {
		return true
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return true // listening will say what is wrong with it
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
