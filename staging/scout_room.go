package staging

func (w *HostWitness) scout() *scout { return w.newScout(0) }

// newScout returns a scout for about n look-ups.
func (w *HostWitness) newScout(n int) *scout {
	return &scout{
		by: w, began: Now(), nodes: make(map[string]*node, n), ways: make(map[string]way, n/4),
		found: make([]seen, 0, n), of: make([]*node, 0, n), name: make([]byte, 0, 256),
	}
}

// scoutFor is newScout, in the room of an earlier one if there is one. New memory costs as
// much as a look at every third name.
func (w *HostWitness) scoutFor(n int) *scout {
	c := w.Hash.keep.scout()
	if c == nil {
		c = w.newScout(n)
	}
	c.by, c.began = w, Now()
	w.Hash.keep.leave(c)
	return c
}

// reset forgets everything, but keeps the room.
func (c *scout) reset() {
	for i := range c.inUse {
		clear(c.rooms[i][:cap(c.rooms[i])])
	}
	clear(c.nodes)
	clear(c.ways)
	clear(c.found[:cap(c.found)])
	clear(c.of)
	*c = scout{nodes: c.nodes, ways: c.ways, found: c.found[:0], of: c.of[:0], name: c.name[:0], rooms: c.rooms}
}

// nodesOnce is for how many nodes room is made at a time.
const nodesOnce = 64

// more makes room for more nodes. Those that there are stay where they are.
func (c *scout) more() {
	if c.inUse == len(c.rooms) {
		c.rooms = append(c.rooms, make([]node, nodesOnce))
	}
	c.room = c.rooms[c.inUse][:0]
	c.inUse++
}
