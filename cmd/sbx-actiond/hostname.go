package main

import (
	"net"
	"net/http"
	"strings"
)

// ownNames refuses what is asked under a name that is not this machine's: a page
// that a browser shows can give its own name the address 127.0.0.1, and then read
// what the server has as if that came from where the page did. No page has an
// address as its name that leads elsewhere. given is the address of the server.
//
// It is for servers that only this machine reaches, and that ask nobody who he is.
func ownNames(given string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isOwnName(r.Host) {
			http.Error(w, "this server is for this machine alone, and answers to its address "+given+" and to localhost, not to any other name in the header Host;\n"+
				"where another name is right, start it with --access FILE, or with --allow-anyone", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isOwnName says whether a header Host names this machine: as localhost, or by an
// address that leads nowhere else. There is none in HTTP 1.0, which no browser
// speaks.
func isOwnName(host string) bool {
	if h, port, err := net.SplitHostPort(host); err == nil {
		if strings.Trim(port, "0123456789") != "" {
			return false
		}
		host = h
	} else {
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	if host == "" || strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// onlyHere says whether the server at --http is for ownNames. With TLS it is not: no
// browser takes its certificate for another name.
func (f *serveFlags) onlyHere() bool {
	return f.access == "" && f.tlsCert == "" && !f.allowAnyone && !strings.HasPrefix(f.http, "unix:")
}
