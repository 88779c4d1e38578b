package main

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	intoto "github.com/in-toto/attestation/go/v1"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"golang.org/x/crypto/ssh"
	"google.golang.org/protobuf/encoding/protojson"
)

// check verifies a file that sign wrote, and the outputs that it is about.
func (f *attestFlags) check(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("want the file that 'sbx-action attest' wrote, and the outputs to check")
	}
	key, err := readVerifier(f.key)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	statement, err := openEnvelope(ctx, data, key)
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	sums := map[string]string{}
	for _, s := range statement.Subject {
		sums[s.Name] = s.Digest["sha256"]
	}
	names := args[1:]
	if len(names) == 0 {
		for _, s := range statement.Subject {
			names = append(names, s.Name)
		}
	}
	for _, name := range names {
		want, ok := sums[name]
		if !ok {
			return fmt.Errorf("%s says nothing about %s", args[0], name)
		}
		have, err := fileSum(name)
		if err != nil {
			return err
		}
		if have != want {
			return fmt.Errorf("%s is not what %s is about: its sha256 is %s, and was %s", name, args[0], have, want)
		}
		fmt.Printf("%s: as signed by %s\n", name, key.id)
	}
	return nil
}

// openEnvelope verifies the signature and returns what was signed.
func openEnvelope(ctx context.Context, data []byte, key *edKey) (*intoto.Statement, error) {
	var e dsse.Envelope
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, fmt.Errorf("not a DSSE envelope: %w", err)
	}
	v, err := dsse.NewEnvelopeVerifier(key)
	if err != nil {
		return nil, err
	}
	if _, err := v.Verify(ctx, &e); err != nil {
		return nil, fmt.Errorf("the signature is not by this key, or of something else: %w", err)
	}
	if e.PayloadType != payloadType {
		return nil, fmt.Errorf("what is signed is %q, and no in-toto statement", e.PayloadType)
	}
	payload, err := e.DecodeB64Payload()
	if err != nil {
		return nil, err
	}
	s := &intoto.Statement{}
	if err := protojson.Unmarshal(payload, s); err != nil {
		return nil, fmt.Errorf("not an in-toto statement: %w", err)
	}
	if s.PredicateType != predicateType {
		return nil, fmt.Errorf("it says %q, and not SLSA v1 provenance", s.PredicateType)
	}
	return s, s.Validate()
}

// An edKey is an ed25519 key for DSSE: as one of SSH, named by its fingerprint.
type edKey struct {
	public  ed25519.PublicKey
	private ed25519.PrivateKey // nil: for verifying only
	id      string
}

var _ dsse.SignerVerifier = (*edKey)(nil)

func (k *edKey) Sign(_ context.Context, data []byte) ([]byte, error) {
	return ed25519.Sign(k.private, data), nil
}

func (k *edKey) Verify(_ context.Context, data, sig []byte) error {
	if !ed25519.Verify(k.public, data, sig) {
		return errors.New("the signature does not fit")
	}
	return nil
}

func (k *edKey) KeyID() (string, error)   { return k.id, nil }
func (k *edKey) Public() crypto.PublicKey { return k.public }

func newKey(file string, public any, private ed25519.PrivateKey) (*edKey, error) {
	p, ok := public.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("--key %s: the key is no ed25519 key: 'ssh-keygen -t ed25519' makes one", file)
	}
	s, err := ssh.NewPublicKey(p)
	if err != nil {
		return nil, err
	}
	return &edKey{p, private, ssh.FingerprintSHA256(s)}, nil
}

func readSigner(file string) (*edKey, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("--key: %w", err)
	}
	raw, err := ssh.ParseRawPrivateKey(data)
	if _, locked := errors.AsType[*ssh.PassphraseMissingError](err); locked {
		return nil, fmt.Errorf("--key %s has a passphrase: give a key without one, such as a deploy key", file)
	}
	if err != nil {
		return nil, fmt.Errorf("--key %s: not a private key of SSH or PEM: %w", file, err)
	}
	switch k := raw.(type) {
	case *ed25519.PrivateKey:
		return newKey(file, k.Public(), *k)
	case ed25519.PrivateKey:
		return newKey(file, k.Public(), k)
	}
	return newKey(file, nil, nil)
}

func readVerifier(file string) (*edKey, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("--key: %w", err)
	}
	if block, _ := pem.Decode(data); block != nil && block.Type == "PUBLIC KEY" {
		public, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("--key %s: %w", file, err)
		}
		return newKey(file, public, nil)
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey(data)
	if err != nil {
		return nil, fmt.Errorf("--key %s: neither a public key of SSH nor of PEM: %w", file, err)
	}
	c, ok := public.(ssh.CryptoPublicKey)
	if !ok {
		return newKey(file, nil, nil)
	}
	return newKey(file, c.CryptoPublicKey(), nil)
}
