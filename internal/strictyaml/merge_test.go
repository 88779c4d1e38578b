package strictyaml

import "strings"

import "testing"

func TestParseMerging(t *testing.T) {
	const text = "a: &x {k: 1, l: 2}\nb: &y {l: 3, m: 4}\nc:\n  <<: [*x, *y]\n  k: 5\n"
	n, err := ParseMerging("f", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, f := range n.Fields[2].Value.Fields {
		got.WriteString(f.Key + "=" + f.Value.Text + " ")
	}
	if got.String() != "k=5 l=2 m=4 " {
		t.Errorf("c is %s", got.String())
	}
	if _, err := Parse("f", []byte(text)); err == nil {
		t.Error("control: Parse takes merge keys")
	}
	if _, err := ParseMerging("f", []byte("a:\n  <<: 1\n")); err == nil {
		t.Error("a number was merged")
	}
}
