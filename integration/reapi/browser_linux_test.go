package reapi_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/sbx-action/sbx-action/action"
	"github.com/sbx-action/sbx-action/integration/reapi/execution"
	"github.com/sbx-action/sbx-action/integration/reapi/webpage"
)

// A browser is a headless Chromium that we talk to with the DevTools protocol:
// messages of JSON, each with a NUL byte behind it, in two pipes.
type browser struct {
	t    *testing.T
	in   *os.File
	out  *bufio.Reader
	last int
	tab  string // the session of the page
}

// A message is a command, its answer, or an event.
type message struct {
	ID        int             `json:"id,omitempty"`
	Method    string          `json:"method,omitempty"`
	Params    any             `json:"params,omitempty"`
	SessionID string          `json:"sessionId,omitempty"`
	Result    json.RawMessage `json:"result,omitempty"`
	Error     json.RawMessage `json:"error,omitempty"`
}

// browse starts a browser, which ends with the test.
func browse(t *testing.T) *browser {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("chromium is missing: on Debian, 'apt-get install chromium'")
	}
	theirIn, ourIn, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ourOut, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	// Its own sandbox needs what a container may not have; the page is ours.
	cmd := exec.Command(program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
		"--user-data-dir="+filepath.Join(home, "profile"), "--remote-debugging-pipe", "--window-size=1200,900", "about:blank")
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_CACHE_HOME="+home)
	cmd.ExtraFiles = []*os.File{theirIn, theirOut}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirIn.Close()
	theirOut.Close()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // with all its helpers
		_ = cmd.Wait()
		ourIn.Close()
		ourOut.Close()
		if t.Failed() {
			t.Logf("chromium said: %s", said.String())
		}
	})
	b := &browser{t: t, in: ourIn, out: bufio.NewReaderSize(ourOut, 1<<20)}
	var targets struct {
		TargetInfos []struct{ TargetID, Type string }
	}
	var attached struct{ SessionID string }
	b.do("Target.getTargets", nil, &targets)
	for _, target := range targets.TargetInfos {
		if target.Type == "page" && attached.SessionID == "" {
			b.do("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
		}
	}
	if b.tab = attached.SessionID; b.tab == "" {
		t.Fatalf("the browser has no page: %v", targets)
	}
	b.do("Page.enable", nil, nil)
	return b
}

// receive returns the next message; the test's own time-out is the only one.
func (b *browser) receive() *message {
	b.t.Helper()
	data, err := b.out.ReadBytes(0)
	if err != nil {
		b.t.Fatalf("the browser: %v", err)
	}
	m := new(message)
	if err := json.Unmarshal(data[:len(data)-1], m); err != nil {
		b.t.Fatal(err)
	}
	return m
}

// do sends a command and waits for its answer, which must be good.
func (b *browser) do(method string, params, answer any) {
	b.t.Helper()
	if err := b.try(method, params, answer); err != nil {
		b.t.Fatal(err)
	}
}

// try sends a command and waits for its answer.
func (b *browser) try(method string, params, answer any) error {
	b.t.Helper()
	b.last++
	data, err := json.Marshal(message{ID: b.last, Method: method, Params: params, SessionID: b.tab})
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.in.Write(append(data, 0)); err != nil {
		b.t.Fatal(err)
	}
	for {
		m := b.receive()
		if m.ID != b.last {
			continue
		}
		if m.Error != nil {
			return fmt.Errorf("%s: %s", method, m.Error)
		}
		if answer != nil {
			return json.Unmarshal(m.Result, answer)
		}
		return nil
	}
}

// eval is the value of an expression of JavaScript in the page, when it has one:
// while a page is replaced by another, or by itself, there is none.
func (b *browser) eval(expression string) (value any) {
	b.t.Helper()
	eventually(b.t, func() bool {
		var res struct {
			Result           struct{ Value any }
			ExceptionDetails json.RawMessage
		}
		err := b.try("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true}, &res)
		value = res.Result.Value
		return err == nil && res.ExceptionDetails == nil
	})
	return value
}

// await waits until an expression is true.
func (b *browser) await(expression string) {
	b.t.Helper()
	eventually(b.t, func() bool { return b.eval(expression) == true })
}

// open goes to an address.
func (b *browser) open(url string) {
	b.t.Helper()
	b.do("Page.navigate", map[string]any{"url": url}, nil)
	b.await(fmt.Sprintf("location.href === %q && document.readyState === 'complete'", url))
}

// click clicks the first link with the text, and waits for the page that it leads
// to.
func (b *browser) click(text string) {
	b.t.Helper()
	b.leave(fmt.Sprintf("[...document.querySelectorAll('a')].find(a => a.innerText.includes(%q))", text))
}

// leave clicks what the expression says, and waits for another page. The first
// page loads itself again now and then, which may come between: then it clicks
// again.
func (b *browser) leave(what string) {
	b.t.Helper()
	before := b.eval("location.href")
	var clicked time.Time
	eventually(b.t, func() bool {
		if b.eval(fmt.Sprintf("location.href !== %q && document.readyState === 'complete'", before)) == true {
			return true
		}
		if time.Since(clicked) > 3*time.Second {
			clicked = time.Now()
			b.eval(fmt.Sprintf("location.href === %q && %s.click()", before, what))
		}
		return false
	})
}

// text is what a person sees of the page.
func (b *browser) text() string {
	b.t.Helper()
	return fmt.Sprint(b.eval("document.body.innerText")) // without a body: an exception
}

// want wants a person to see all of it, on a page that is there.
func (b *browser) want(what string, list ...string) {
	b.t.Helper()
	b.await("document.readyState === 'complete'")
	text := b.text()
	for _, s := range list {
		if !strings.Contains(text, s) {
			b.t.Errorf("%s does not show %q:\n%s", what, s, text)
		}
	}
}

// screenshot wants the page to have been drawn, and to fit into the window; with
// SBX_SCREENSHOTS it is left there, to be looked at.
func (b *browser) screenshot(name string) {
	b.t.Helper()
	if wide := b.eval("document.documentElement.scrollWidth > document.documentElement.clientWidth"); wide != false {
		b.t.Errorf("%s: the page is wider than the window", name)
	}
	var shot struct{ Data string }
	b.do("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true}, &shot)
	data, err := base64.StdEncoding.DecodeString(shot.Data)
	if err != nil {
		b.t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		b.t.Fatal(err)
	}
	if n := colours(img); n < 8 {
		b.t.Errorf("%s: %d colours: nothing was drawn", name, n)
	}
	if dir := os.Getenv("SBX_SCREENSHOTS"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, name+".png"), data, 0o644); err != nil {
			b.t.Fatal(err)
		}
	}
}

func colours(img image.Image) int {
	seen := map[[3]uint32]bool{}
	for y := img.Bounds().Min.Y; y < img.Bounds().Max.Y; y++ {
		for x := img.Bounds().Min.X; x < img.Bounds().Max.X; x++ {
			r, g, b, _ := img.At(x, y).RGBA()
			seen[[3]uint32{r, g, b}] = true
		}
	}
	return len(seen)
}

// TestBrowser looks at the pages as a person does, in a real browser: what runs and
// waits, what ran with all that belongs to it, and down into trees to a file,
// which it downloads.
func TestBrowser(t *testing.T) {
	if testing.Short() {
		t.Skip("a browser takes some seconds to start")
	}
	s := start(t, func(o *execution.Options) { o.Jobs = 1 })
	deep := s.putMessage(action.SHA256, &repb.Directory{Files: []*repb.FileNode{{Name: "deep.h", Digest: s.put(action.SHA256, []byte("#define DEEP 1\n"))}}})
	sub := s.putMessage(action.SHA256, &repb.Directory{Directories: []*repb.DirectoryNode{{Name: "below", Digest: deep}}, Symlinks: []*repb.SymlinkNode{{Name: "link", Target: "below/deep.h"}}})
	root := &repb.Directory{
		Files: []*repb.FileNode{
			{Name: "main.c", Digest: s.put(action.SHA256, []byte("int main(void) { return 0; }\n"))},
			{Name: "tool.sh", Digest: s.put(action.SHA256, []byte("#!/bin/sh\n")), IsExecutable: true},
		},
		Directories: []*repb.DirectoryNode{{Name: "include", Digest: sub}},
	}
	s.succeed(s.action(call{
		script: "echo compiling main.c; echo warning: something >&2; mkdir -p out/lib; echo object > out/main.o; echo library > out/lib/a.so; chmod 755 out/lib/a.so; ln -s a.so out/lib/b.so",
		root:   root, command: func(c *repb.Command) {
			c.OutputPaths = []string{"out"}
			c.EnvironmentVariables = []*repb.Command_EnvironmentVariable{{Name: "LANG", Value: "C"}}
		},
	}))
	s.execute(s.action(call{script: "echo no such thing >&2; exit 3"}))
	s.succeed(s.action(call{script: "echo twice"}))
	s.succeed(s.action(call{script: "echo twice"}))
	release := s.hold(t)
	defer release()
	if _, err := s.exec.Execute(t.Context(), &repb.ExecuteRequest{ActionDigest: s.action(call{script: "echo has to wait"})}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return s.engine.Counts().Queued == 1 })
	web := httptest.NewServer(&webpage.Handler{
		Store: s.store, Engine: s.engine,
		May: func(*http.Request, string) bool { return true }, Blobs: func(*http.Request) bool { return true },
	})
	defer web.Close()

	b := browse(t)
	b.open(web.URL + "/")
	b.want("the first page", "1 of 1 workers busy", "1 waiting", "sleep 1000", "echo has to wait", "exit code 3", "hit", "compiling main.c")
	b.screenshot("home")
	b.click("exit code 3")
	b.want("a failed action", "exit code 3", "no such thing", "/bin/sh")
	b.screenshot("failed")
	b.open(web.URL + "/")
	b.click("running")
	b.want("an action that runs", "executing", "sleep 1000", "clients that wait", "logstreams/")
	b.screenshot("running")
	b.open(web.URL + "/")
	// The first one that was done is the last of the list.
	b.leave(`[...document.querySelectorAll('a.good')].at(-1)`)
	b.want("an action", "not from the cache", "not present", "in the queue", "staging inputs", "running", "collecting outputs",
		"LANG", "include/", "below/", "deep.h", "below/deep.h", "tool.sh", "executable", "out/", "compiling main.c", "warning: something")
	b.screenshot("operation")
	b.click("deep.h")
	b.want("a file of the inputs", "#define DEEP 1")
	b.screenshot("blob")
	b.eval("history.back()")
	b.await("location.pathname.startsWith('/operation/') && document.readyState === 'complete'")
	b.click("out/")
	b.want("the outputs", "lib/", "a.so", "b.so", "main.o")
	b.screenshot("outputs")
	dir := t.TempDir()
	b.do("Page.setDownloadBehavior", map[string]any{"behavior": "allow", "downloadPath": dir}, nil)
	b.eval(`[...document.querySelectorAll('a')].find(a => a.innerText.includes('tar')).click()`)
	eventually(t, func() bool { return strings.Contains(listTar(dir), "lib/ lib/a.so lib/b.so main.o ") })
	b.click("a.so")
	b.want("a file of the outputs", "library")
	// Download it, too.
	b.eval(`[...document.querySelectorAll('a')].find(a => a.innerText === 'download').click()`)
	eventually(t, func() bool {
		files, _ := filepath.Glob(filepath.Join(dir, "*"))
		for _, f := range files {
			if data, err := os.ReadFile(f); err == nil && string(data) == "library\n" {
				return true
			}
		}
		return false
	})
	release()
}

// listTar is the names in the tar that is in dir.
func listTar(dir string) (names string) {
	files, _ := filepath.Glob(filepath.Join(dir, "*.tar"))
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			return ""
		}
		for r := tar.NewReader(bytes.NewReader(data)); ; {
			h, err := r.Next()
			if err != nil {
				return names
			}
			names += h.Name + " "
		}
	}
	return ""
}
