// Package access says who may do what on a server: a file of names, their
// secrets and their rights, and interceptors that ask it for every request.
//
// # The file
//
// Each line is
//
//	NAME:SECRET[:RIGHTS[@INSTANCE] …]
//
// SECRET is a bcrypt hash, as 'htpasswd -B' makes it, of a password that comes
// by HTTP's Basic authentication; or sha256= and the SHA-256, in hex, of a
// bearer token; or cert, for a client certificate whose common name or DNS name
// is NAME. NAME * with the secret - is anybody at all. RIGHTS are separated by
// commas:
//
//	read     blobs and results of actions
//	upload   blobs
//	execute  actions: read and upload, too, because nothing can be executed without
//	write    results of actions, and assets: upload, too
//
// Who may write can make everybody else's builds use what he has written. So a
// line without RIGHTS gives execute, and not write. INSTANCE is the name of one,
// or * for all, which is what no INSTANCE means, too. Empty lines and those that
// begin with # say nothing.
package access

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/crypto/bcrypt"
)

// Rights are what somebody may do.
type Rights uint8

// The rights.
const (
	Read Rights = 1 << iota
	Upload
	Execute
	Write

	Everything = Read | Upload | Execute | Write
)

var rightNames = map[string]Rights{
	"read": Read, "upload": Upload, "execute": Execute | Read | Upload, "write": Write | Upload,
}

func (r Rights) String() string {
	var list []string
	for _, name := range []string{"read", "upload", "execute", "write"} {
		single := map[string]Rights{"read": Read, "upload": Upload, "execute": Execute, "write": Write}[name]
		if r&single != 0 {
			list = append(list, name)
		}
	}
	if list == nil {
		return "none"
	}
	return strings.Join(list, ",")
}

// usual is what a line without rights gives.
const usual = Execute | Read | Upload

// A grant is rights in an instance, "*" for all.
type grant struct {
	rights   Rights
	instance string
}

// Somebody is who a request comes from.
type Somebody struct {
	Name   string // "" for anybody
	grants []grant
}

// May is what s may do in an instance.
func (s *Somebody) May(instance string) (r Rights) {
	for _, g := range s.grants {
		if g.instance == "*" || g.instance == instance {
			r |= g.rights
		}
	}
	return r
}

// Anywhere is what s may do in some instance.
func (s *Somebody) Anywhere() (r Rights) {
	for _, g := range s.grants {
		r |= g.rights
	}
	return r
}

// A List is who may do what.
type List struct {
	users   map[string]*entry   // with a password
	tokens  map[[32]byte]*entry // by the hash of the token
	certs   map[string]*entry
	anybody *Somebody
	decoy   []byte // a bcrypt hash that nobody has

	slow chan struct{} // one for each password that may be checked at a time
	key  [32]byte      // of what is remembered
	mu   sync.Mutex
	good map[[32]byte]*Somebody // guarded by mu: credentials that were right
}

type entry struct {
	bcrypt []byte
	who    *Somebody
}

// Anyone is a list by which everybody may do everything.
func Anyone() *List {
	return newList(&Somebody{grants: []grant{{Everything, "*"}}})
}

func newList(anybody *Somebody) *List {
	l := &List{
		users: map[string]*entry{}, tokens: map[[32]byte]*entry{}, certs: map[string]*entry{}, anybody: anybody,
		slow: make(chan struct{}, 2), good: map[[32]byte]*Somebody{},
	}
	rand.Read(l.key[:])
	return l
}

// Certificates is a list by which whoever has a good client certificate may do
// what a line without rights gives.
func Certificates() *List {
	l := newList(&Somebody{})
	l.certs["*"] = &entry{who: &Somebody{Name: "*", grants: []grant{{usual, "*"}}}}
	return l
}

// Open reads a file of names. One that others may read is refused: what is in
// it can be tried out.
func Open(path string) (*List, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others than its owner: chmod 600 it", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	l, err := Parse(string(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return l, nil
}

// Parse parses the text of a file.
func Parse(text string) (*List, error) {
	l := newList(&Somebody{})
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if err := l.add(line); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	// As costly as the costliest, so that a name that is not there takes no less
	// time than a wrong password.
	cost := bcrypt.MinCost
	for _, e := range l.users {
		if c, err := bcrypt.Cost(e.bcrypt); err == nil {
			cost = max(cost, c)
		}
	}
	if len(l.users) > 0 {
		var err error
		if l.decoy, err = bcrypt.GenerateFromPassword([]byte(rand.Text()), cost); err != nil {
			return nil, err
		}
	}
	return l, nil
}

func (l *List) add(line string) error {
	name, rest, ok := strings.Cut(line, ":")
	secret, rights, given := strings.Cut(rest, ":")
	if !ok || name == "" || secret == "" {
		return errors.New("want NAME:SECRET or NAME:SECRET:RIGHTS")
	}
	who := &Somebody{Name: name, grants: []grant{{usual, "*"}}}
	if given {
		who.grants = nil
		for word := range strings.FieldsSeq(rights) {
			g, err := parseGrant(word)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			who.grants = append(who.grants, g)
		}
	}
	twice := fmt.Errorf("%s is there twice", name)
	switch token, isToken := strings.CutPrefix(secret, "sha256="); {
	case name == "*" && secret == "-":
		who.Name = ""
		l.anybody = who
	case name == "*" || secret == "-":
		return errors.New("the name * goes with the secret -, and no other")
	case isToken:
		raw, err := hex.DecodeString(token)
		if err != nil || len(raw) != 32 {
			return fmt.Errorf("%s: want sha256= and 64 hex digits: 'printf %%s TOKEN | sha256sum' gives them", name)
		}
		if l.tokens[[32]byte(raw)] != nil {
			return twice
		}
		l.tokens[[32]byte(raw)] = &entry{who: who}
	case secret == "cert":
		if l.certs[name] != nil {
			return twice
		}
		l.certs[name] = &entry{who: who}
	default:
		if _, err := bcrypt.Cost([]byte(secret)); err != nil {
			return fmt.Errorf("%s: the secret is neither a bcrypt hash ('htpasswd -B' makes them) nor sha256=… nor cert", name)
		}
		if l.users[name] != nil {
			return twice
		}
		l.users[name] = &entry{bcrypt: []byte(secret), who: who}
	}
	return nil
}

func parseGrant(word string) (grant, error) {
	list, instance, at := strings.Cut(word, "@")
	if !at {
		instance = "*"
	}
	g := grant{instance: instance}
	for name := range strings.SplitSeq(list, ",") {
		r, ok := rightNames[name]
		if !ok {
			return g, fmt.Errorf("right %q: there are read, upload, execute and write", name)
		}
		g.rights |= r
	}
	return g, nil
}

// ErrDenied says that credentials are wrong.
var ErrDenied = errors.New("the credentials are wrong")

// Who says who a request comes from: by its Authorization header, "" if it has
// none, else by the client's certificate, if it has one that is good.
func (l *List) Who(authorization string, chain []*x509.Certificate) (*Somebody, error) {
	if authorization == "" {
		return l.byCertificate(chain), nil
	}
	scheme, value, _ := strings.Cut(authorization, " ")
	value = strings.TrimSpace(value)
	switch strings.ToLower(scheme) {
	case "bearer":
		if e := l.tokens[sha256.Sum256([]byte(value))]; e != nil {
			return e.who, nil
		}
	case "basic":
		raw, err := base64.StdEncoding.DecodeString(value)
		name, password, ok := strings.Cut(string(raw), ":")
		if err == nil && ok {
			return l.byPassword(name, password)
		}
	}
	return nil, ErrDenied
}

func (l *List) byCertificate(chain []*x509.Certificate) *Somebody {
	if len(chain) == 0 {
		return l.anybody
	}
	for _, name := range append([]string{chain[0].Subject.CommonName}, chain[0].DNSNames...) {
		if e := l.certs[name]; e != nil && name != "*" {
			return e.who
		}
	}
	if e := l.certs["*"]; e != nil {
		return &Somebody{Name: chain[0].Subject.CommonName, grants: e.who.grants}
	}
	return l.anybody
}

// goodMax bounds the passwords that are remembered to be right.
const goodMax = 10_000

// byPassword checks a password, which takes long on purpose; one that was right
// is remembered, by a hash whose key is only in memory.
func (l *List) byPassword(name, password string) (*Somebody, error) {
	if len(password) > 72 || l.decoy == nil { // more than bcrypt looks at
		return nil, ErrDenied
	}
	h := sha256.New()
	h.Write(l.key[:])
	fmt.Fprintf(h, "%d:%s%s", len(name), name, password)
	id := [32]byte(h.Sum(nil))
	l.mu.Lock()
	who := l.good[id]
	l.mu.Unlock()
	if who != nil {
		return who, nil
	}
	l.slow <- struct{}{} // guesses must not take all processors
	defer func() { <-l.slow }()
	e := l.users[name]
	hash := l.decoy
	if e != nil {
		hash = e.bcrypt
	}
	err := bcrypt.CompareHashAndPassword(hash, []byte(password))
	if e == nil || err != nil {
		return nil, ErrDenied
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.good) >= goodMax {
		clear(l.good)
	}
	l.good[id] = e.who
	return e.who, nil
}

// ForAnybody says whether anybody at all may do something.
func (l *List) ForAnybody() bool {
	return slices.ContainsFunc(l.anybody.grants, func(g grant) bool { return g.rights != 0 })
}
