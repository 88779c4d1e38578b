package action

import (
	"fmt"
	"strings"
)

// A Verification is what running an action again under other conditions has
// shown. It is kept in the auxiliary metadata of the result that it is about,
// as the bytes of the protobuf message
//
//	message Verification {
//	  uint32 runs = 1;                 // how often it ran again
//	  repeated string varied = 2;      // what was different then
//	  repeated string differences = 3; // what came out different, and why
//	}
type Verification struct {
	Runs        int
	Varied      []string
	Differences []string // empty: the outputs were always the same
}

const verificationType = "type.googleapis.com/sbx.action.v1.Verification"

// Marshal returns the bytes of the message.
func (v *Verification) Marshal() []byte {
	b := appendInt(nil, 1, int64(v.Runs))
	b = appendElements(b, 2, v.Varied)
	return appendElements(b, 3, v.Differences)
}

// parseVerification parses what Marshal returns.
func parseVerification(data []byte) (*Verification, error) {
	return parse("Verification", data, SHA256, (*Verification).read, func(*Verification) error { return nil })
}

func (v *Verification) read(r *reader) {
	for r.next() {
		switch r.field {
		case 1:
			v.Runs = int(r.int32("runs"))
		case 2:
			r.element("varied", &v.Varied)
		case 3:
			r.element("differences", &v.Differences)
		default:
			r.unknown()
		}
	}
}

// Verification returns what is known of the reproducibility of res, or nil.
func (m *Result) Verification() *Verification {
	if m.Metadata == nil {
		return nil
	}
	for _, x := range m.Metadata.Auxiliary {
		if x.TypeURL != verificationType {
			continue
		}
		v, err := parseVerification(x.Value)
		if err != nil { // of a later version: it says something, and we do not know what
			return &Verification{Differences: []string{"unreadable: " + err.Error()}}
		}
		return v
	}
	return nil
}

// WithVerification returns a copy of m that has v, in the place of an earlier
// one.
func (m *Result) WithVerification(v *Verification) *Result {
	res, meta := *m, Metadata{}
	if m.Metadata != nil {
		meta = *m.Metadata
	}
	var list []Any
	for _, x := range meta.Auxiliary {
		if x.TypeURL != verificationType {
			list = append(list, x)
		}
	}
	meta.Auxiliary = append(list, Any{verificationType, v.Marshal()})
	res.Metadata = &meta
	return &res
}

// Shareable says why res must not be shared with a remote cache, or nil: whoever
// gets it there would take it for what the action gives, and it is only what it gave
// once. Whoever uploads results asks.
func (m *Result) Shareable() error {
	v := m.Verification()
	if v == nil || len(v.Differences) == 0 {
		return nil
	}
	return fmt.Errorf("the action is not reproducible: %s", strings.Join(v.Differences, "; "))
}
