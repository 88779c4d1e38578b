package action

// OwnersProperty is the platform property, with the value [OwnersRecorded], of an
// action whose command may change owners and make devices: see
// backends.Spec.Owners. What it makes of them is part of its outputs.
const (
	OwnersProperty = "owners"
	OwnersRecorded = "recorded"
)

// recordsOwners says whether m has that property.
func (m *Action) recordsOwners() bool {
	for _, p := range m.Platform {
		if p.Name == OwnersProperty {
			return p.Value == OwnersRecorded
		}
	}
	return false
}
