package native

import "github.com/sbx-action/sbx-action/backends"

func (b *Backend) probe() backends.Capabilities {
	return backends.Capabilities{Works: true, Owner: backends.ID}
}
