package worker

import "time"

// SetSpare is for tests, which cannot wait a minute.
func (w *Worker) SetSpare(d time.Duration) { w.room.spare = d }
