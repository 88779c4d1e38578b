package execution

import (
	"container/heap"
	"context"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/backends"
)

const (
	stageQueued    = repb.ExecutionStage_QUEUED
	stageExecuting = repb.ExecutionStage_EXECUTING
	stageCompleted = repb.ExecutionStage_COMPLETED
)

// A taskKey is what requests must have in common to share a task.
type taskKey struct {
	instance string
	digest   action.Digest
}

// A task is one run of an action, for all the operations that wait for it. Its
// fields are guarded by Engine.mu, but for those that never change.
type task struct {
	job        *job
	id         string
	skipLookup bool
	ctx        context.Context
	cancel     context.CancelCauseFunc

	priority int32
	serial   int64
	index    int // in the queue; -1: not in it

	stage    repb.ExecutionStage_Value
	queued   time.Time
	started  time.Time
	logs     *taskLogs
	ops      []*Operation  // that have not ended
	changed  chan struct{} // closed at the next change
	response *repb.ExecuteResponse

	used *backends.Usage // by the command; of the goroutine that runs it
}

// broadcast tells everybody who waits that something has changed. Needs
// Engine.mu.
func (t *task) broadcast() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// A queue is a heap of tasks: the smallest priority first, as REAPI has it, and
// of those the oldest.
type queue struct {
	list  taskHeap
	bytes int64 // of the messages of all of them
}

func (q *queue) Len() int { return len(q.list) }

func (q *queue) push(t *task) {
	q.bytes += t.job.size
	heap.Push(&q.list, t)
}

func (q *queue) pop() *task {
	t := heap.Pop(&q.list).(*task)
	q.bytes -= t.job.size
	return t
}

func (q *queue) remove(t *task) {
	if t.index >= 0 {
		q.bytes -= t.job.size
		heap.Remove(&q.list, t.index)
	}
}

// hurry gives t a smaller priority, if p is one.
func (q *queue) hurry(t *task, p int32) {
	if p < t.priority {
		t.priority = p
		if t.index >= 0 {
			heap.Fix(&q.list, t.index)
		}
	}
}

type taskHeap []*task

func (h taskHeap) Len() int { return len(h) }

func (h taskHeap) Less(i, j int) bool {
	if h[i].priority != h[j].priority {
		return h[i].priority < h[j].priority
	}
	return h[i].serial < h[j].serial
}

func (h taskHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *taskHeap) Push(x any) {
	t := x.(*task)
	t.index = len(*h)
	*h = append(*h, t)
}

func (h *taskHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	t.index = -1
	return t
}
