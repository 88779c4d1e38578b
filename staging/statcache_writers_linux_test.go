package staging

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func writeMapped(name, s string) error {
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	m, err := unix.Mmap(int(file.Fd()), 0, len(s), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	copy(m, s)
	return unix.Munmap(m)
}

// A mapping changes the file without a new time once its page is dirty.
func TestMappedWriter(t *testing.T) {
	f := newFooled(t)
	f.write(t, content)
	f.trusted(t)
	file, err := os.OpenFile(f.file(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	m, err := unix.Mmap(int(file.Fd()), 0, len(content), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	file.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(m)
	m[0] = 'a' // stamps the file
	time.Sleep(3 * trustMargin / 2)
	f.check(t)
	before, err := StatPath(f.file(), KeepLinks)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		m[0] = byte(i)
		f.check(t)
	}
	after, err := StatPath(f.file(), KeepLinks)
	if err != nil {
		t.Fatal(err)
	}
	if before != after {
		t.Log("the kernel wrote the page back meanwhile: this run proves less")
	}
}

func TestOpenWriter(t *testing.T) {
	f := newFooled(t)
	f.write(t, content)
	f.trusted(t)
	if err := os.Chtimes(f.file(), time.Unix(1, 1), time.Unix(1, 1)); err != nil { // forget it
		t.Fatal(err)
	}
	time.Sleep(3 * trustMargin / 2)
	w, err := os.OpenFile(f.file(), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if d, err := f.hasher.Digest(f.file()); err != nil || d.Stable {
		t.Errorf("with a writer: %+v, %v", d, err)
	}
	w.Close()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) { // a process that is being started may still have it
		d, err := f.hasher.Digest(f.file())
		if err == nil && d.Stable {
			break
		}
		if err != nil || time.Now().After(end) {
			t.Fatalf("without a writer: %+v, %v", d, err)
		}
	}
}

// Whoever opens a file for writing while we hold the lease waits a moment, and
// nothing worse happens to him or to us.
func TestLeaseBroken(t *testing.T) {
	f := newFooled(t)
	f.write(t, content)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				if w, err := os.OpenFile(f.file(), os.O_WRONLY, 0); err != nil {
					t.Error(err)
				} else {
					w.Close()
				}
			}
		}
	}()
	fd, err := openFile(unix.AT_FDCWD, f.file(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	seen := map[bool]int{}
	for range 5000 {
		margin := int64(0)
		seen[hasWriter(fd, &margin)]++
	}
	close(stop)
	<-stopped
	t.Logf("a writer was seen %d times, and %d times not", seen[true], seen[false])
}
