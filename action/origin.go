package action

import "errors"

// What an action was is kept in the auxiliary metadata of its result: as blobs
// the two messages would cost two more files, and on some file systems a new
// file costs half a millisecond.
const (
	actionType  = "type.googleapis.com/build.bazel.remote.execution.v2.Action"
	commandType = "type.googleapis.com/build.bazel.remote.execution.v2.Command"
)

func originOf(a *Action, c *Command) []Any {
	return []Any{{actionType, a.Marshal()}, {commandType, c.Marshal()}}
}

// WithOrigin returns the result as one of a, as Origin will tell.
func (m *Result) WithOrigin(a *Action, c *Command) *Result {
	res := *m
	res.Metadata = &Metadata{}
	if m.Metadata != nil {
		*res.Metadata = *m.Metadata
	}
	res.Metadata.Auxiliary = originOf(a, c)
	return &res
}

// Origin returns the action and the command that res is the result of, as
// Runner noted them. f is the function of the digests in them.
func (m *Result) Origin(f Function) (a *Action, c *Command, err error) {
	if m.Metadata == nil {
		return nil, nil, errors.New("the result does not say what ran")
	}
	for _, x := range m.Metadata.Auxiliary {
		switch x.TypeURL {
		case actionType:
			a, err = ParseAction(x.Value, f)
		case commandType:
			c, err = ParseCommand(x.Value, f)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	if a == nil || c == nil {
		return nil, nil, errors.New("the result does not say what ran")
	}
	return a, c, nil
}
