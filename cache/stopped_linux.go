package cache

import (
	"bytes"
	"os"
	"strconv"
)

// stopped says whether a process is stopped by a signal, such as that of Ctrl-Z:
// the third field of /proc/PID/stat, see proc_pid_stat(5).
func stopped(pid int) bool {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	return bytes.HasPrefix(data[bytes.LastIndexByte(data, ')')+1:], []byte(" T"))
}
