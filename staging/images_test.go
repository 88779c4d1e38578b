package staging

import (
	"testing"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
)

type layersOn struct {
	action.Layers
	images bool
}

func (l layersOn) HoldsImages() bool { return l.images }

// TestNoImages makes no image where none can be mounted from: in a tmpfs.
func TestNoImages(t *testing.T) {
	can := backends.Capabilities{Overlay: true, Images: true, DataLayers: true, Owner: backends.ID}
	for _, c := range []struct {
		layers action.Layers
		want   layerKind
	}{
		{layersOn{nil, true}, imageLayer},
		{layersOn{nil, false}, rootTreeLayer},
		{struct{ action.Layers }{}, imageLayer},
	} {
		s := &Stager{Layers: c.layers, Capabilities: can}
		if got := s.layerKind(); got != c.want {
			t.Errorf("%+v: %v, want %v", c.layers, got, c.want)
		}
	}
}
