package backends

import "time"

// A Vary says what a command is to see of the world that is not so, to find out
// what its outputs depend on. A zero field leaves a thing as it always is.
//
// The time of day is told by the clocks that have it, with or without the vDSO,
// and by the modification and access times of files that the command made.
// Not varied are: programs of 32 bits; the monotonic clocks, CPU times and the
// like; the change times of files; /proc/uptime and btime; what a program that
// makes no system call before it asks for the time is told. A program that
// sleeps until a time of day, as pthread_cond_timedwait can, sleeps too long.
type Vary struct {
	HostName string

	// WorkDir is an absolute path at which the directory /build of the root
	// is to be seen, too. Spec.Dir says where the command starts.
	WorkDir string

	// Shift is added to the time of day. Freeze stops it: it begins there, and
	// advances by a microsecond each time it is asked for, and by FreezeStep
	// each time that so much has passed. One of the two may be set.
	Shift      time.Duration
	Freeze     time.Time
	FreezeStep time.Duration

	// Order, where not 0, is the seed of the order in which directories list
	// what they hold.
	Order uint32

	// CPUs is the number of processors that the command is told of: by
	// sched_getaffinity, /proc/cpuinfo and /proc/stat.
	CPUs int

	// OneCPU lets only one thread of the command run at a time.
	OneCPU bool

	// Delay, where not 0, is the seed of delays of some milliseconds: new
	// processes wait, each for another time, up to two seconds for all together.
	// With InTurn they run one after the other instead.
	Delay uint32

	Umask  *int
	Layout bool // addresses are random
}

// InTurn is the Delay with which new processes begin in the order in which they
// were made, each when those before it have ended, but for its ancestors. None
// waits for longer than a third of a second, and all together not longer than two
// seconds.
const InTurn = ^uint32(0)
