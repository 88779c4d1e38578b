package action

import (
	"crypto/sha256"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" // sha256 of "abc"

func TestSumVectors(t *testing.T) {
	for _, v := range []struct {
		f    Function
		data string
		want string
	}{
		{SHA256, "abc", "sha256:" + abc + "/3"},
		{SHA256, "", "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855/0"},
		{BLAKE3, "", "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262/0"},
		{BLAKE3, "abc", "blake3:6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85/3"},
	} {
		d := Sum(v.f, []byte(v.data))
		if d.String() != v.want {
			t.Errorf("Sum(%v, %q) = %v, want %v", v.f, v.data, d, v.want)
		}
		if d.IsZero() || d.IsEmpty() != (v.data == "") {
			t.Errorf("%v: zero %v, empty %v", d, d.IsZero(), d.IsEmpty())
		}
	}
	if d := (Digest{}); !d.IsZero() || d.IsEmpty() || d.String() != "no digest" {
		t.Errorf("the zero Digest: zero %v, empty %v, %q", d.IsZero(), d.IsEmpty(), d)
	}
}

// TestHasher writes in pieces, of sizes around the block of the functions.
func TestHasher(t *testing.T) {
	data := make([]byte, 300<<10)
	rand.NewChaCha8([32]byte{}).Read(data)
	for _, n := range []int{0, 1, 63, 64, 65, 1023, 1024, 1025, 16 << 10, 256<<10 - 1, 256 << 10, 300 << 10} {
		for _, f := range []Function{SHA256, BLAKE3} {
			h := NewHasher(f)
			h.Write([]byte("forgotten"))
			h.Reset()
			h.Write(data[:n/3])
			if d := h.Sum(); d != Sum(f, data[:n/3]) { // and go on
				t.Errorf("Hasher after %d: %v", n/3, d)
			}
			h.Write(data[n/3 : n])
			if d, want := h.Sum(), Sum(f, data[:n]); d != want {
				t.Errorf("Hasher of %d: %v, want %v", n, d, want)
			}
		}
	}
}

func TestParseDigestRefuses(t *testing.T) {
	good := "sha256:" + abc + "/3"
	if d, err := ParseDigest(good); err != nil || d != Sum(SHA256, []byte("abc")) {
		t.Fatalf("control: %v, %v", d, err)
	}
	for s, want := range map[string]string{
		"":                                                "want FUNCTION:HASH/SIZE",
		abc + "/3":                                        "want FUNCTION:HASH/SIZE",
		"sha256:" + abc:                                   "want FUNCTION:HASH/SIZE",
		"md4:" + abc + "/3":                               "unknown digest function",
		"md5:" + abc + "/3":                               "32 lower-case hex",
		"SHA256:" + abc + "/3":                            "unknown digest function",
		strings.ToUpper(good):                             "unknown digest function",
		"sha256:" + abc[1:] + "/":                         "size",
		"sha256:" + abc + "/+3":                           "size",
		"sha256:" + abc + "/03":                           "size",
		"sha256:" + abc + "/ 3":                           "size",
		"sha256:" + abc + "/3 ":                           "size",
		"sha256:" + abc + "/-3":                           "negative",
		"sha256:" + abc + "/-0":                           "size",
		"sha256:" + abc + "/0x3":                          "size",
		"sha256:" + abc + "/3/3":                          "size",
		"sha256:" + abc + "/9223372036854775808":          "size",
		"sha256:" + abc[1:] + "/3":                        "64 lower-case hex",
		"sha256:" + abc + "0/3":                           "64 lower-case hex",
		"sha256:" + strings.ToUpper(abc) + "/3":           "64 lower-case hex",
		"sha256:" + abc[:63] + "g/3":                      "64 lower-case hex",
		"sha256:../../../../etc/passwd" + abc[:43] + "/3": "size",
	} {
		if d, err := ParseDigest(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseDigest(%q) = %v, %v; want an error with %q", s, d, err, want)
		}
	}
}

func TestNewDigestRefuses(t *testing.T) {
	sum := sha256.Sum256([]byte("abc"))
	if d, err := NewDigest(SHA256, sum, 3); err != nil || d != Sum(SHA256, []byte("abc")) {
		t.Fatalf("control: %v, %v", d, err)
	}
	for _, f := range []Function{0, 4, 7, SHA1, SHA512, 255} {
		if d, err := NewDigest(f, sum, 3); err == nil {
			t.Errorf("NewDigest with %v = %v", f, d)
		}
		if d, err := ParseHash(f, abc, 3); err == nil {
			t.Errorf("ParseHash with %v = %v", f, d)
		}
	}
	for _, size := range []int64{-1, math.MinInt64} {
		if d, err := ParseHash(SHA256, abc, size); err == nil {
			t.Errorf("ParseHash with size %d = %v", size, d)
		}
	}
}

func FuzzParseDigest(f *testing.F) {
	f.Add("sha256:" + abc + "/3")
	f.Add("blake3:" + abc + "/9223372036854775807")
	f.Add("blake3:" + strings.Repeat("0", 64) + "/0")
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := ParseDigest(s); err == nil && d.String() != s {
			t.Errorf("ParseDigest(%q).String() = %q", s, d.String())
		}
		if fn, err := ParseFunction(s); err == nil && fn.String() != s {
			t.Errorf("ParseFunction(%q).String() = %q", s, fn)
		}
	})
}
