package sha256tree

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"
)

// vectors are those that REAPI publishes in sha256tree_test_vectors.txt: the
// bytes 0 to 250, again and again.
var vectors = map[int]string{
	1025:   "36c0998b21839ef74300b9de47d96d1f62323dc81f2b4231e98ce70cd6ffe750",
	2048:   "b584996386f01793751c5cf0c39561f51b7e9924b818943b3cb2f6928cea0fa9",
	2049:   "7318d2029b0392edf4cf109edb5a086b4bdadbb7950f710a1483eb881d9e5d44",
	3072:   "dfc61c0a041f79d55d53bfe31c6cda7df77fdc8e6fbac1143d70b7144fdf6937",
	3073:   "517d20c0e5835f060a1bd6388ed68574f63424bdac2a2c3a35a5c2ef859d8fe2",
	4096:   "2f72bb93880012168c027f6781527ff08177c7c8dccb443f4d2c6389c186633d",
	4097:   "c3ec942c1b8f4580320d3a06bcf4f8fe1f5db2be797ab67061ea4c2a95f208f2",
	5120:   "a76924f6535b4b473377c285ec27acc84cc58e95ab1e9e29b1bb6a4a3fb9d0b3",
	5121:   "98f987c3e9fc057a70873715b679b89a663d0df806859b6ce73f8379b06a10ff",
	6144:   "372f988af412041b680ab236feef45626380062beb7514bbf93607aedd28fc9a",
	6145:   "6dc4b78efd770453417b2ffdc74b27054793efe6122ecd7ee098670ed7c4651c",
	7168:   "43686312c0cabccf9d5ad509efa096e3d743c63c7a51f122473c57949e4dd9a0",
	7169:   "ad729297ab36cd099665b27c4247474a5518e4cd0be443f5f31d95edda08429b",
	8192:   "fcfdde6fe59178e17708c5ba647919c3b141a44c9d1970782e597e1465266932",
	8193:   "113c6e3a2452f388b6fad13dfab66ee0bff597a0a9a517ad8d0165f7190b603e",
	16384:  "a7a10149a8cb00be537000560edb83b196306b780b72fad8af218f369f75fc19",
	31744:  "2cdf7662636c173d4b236f6ea03bf84c65e7f6487b53b2a61c420e26cf8a98c7",
	102400: "0668d69e5331840d2f1823d717b7b3f5d1fdc8a09504cddb692b87ff83d50e5f",
}

func input(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
}

func TestPublishedVectors(t *testing.T) {
	for n, want := range vectors {
		data := input(n)
		for _, step := range []int{n, 1, 1000, 1024, 1025} {
			h := New()
			for at := 0; at < n; at += step {
				h.Write(data[at:min(at+step, n)])
			}
			if got := hex.EncodeToString(h.Sum(nil)); got != want {
				t.Errorf("%d bytes, %d at a time: %s, want %s", n, step, got, want)
			}
			h.Reset()
			h.Write(data)
			if got := hex.EncodeToString(h.Sum(nil)); got != want {
				t.Errorf("%d bytes after Reset: %s, want %s", n, got, want)
			}
		}
	}
}

func TestSmallIsSHA256(t *testing.T) {
	for _, n := range []int{0, 1, 64, 1023, 1024} {
		h := New()
		h.Write(input(n))
		if want := sha256.Sum256(input(n)); [Size]byte(h.Sum(nil)) != want {
			t.Errorf("%d bytes: not SHA-256", n)
		}
	}
}
