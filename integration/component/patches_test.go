package component

import (
	"strings"
	"testing"
)

func TestCheckPatch(t *testing.T) {
	body := "@@ -1 +1,2 @@\n-a\n+b\n+c\n"
	for name, text := range map[string]string{
		"plain":     "--- a/x\n+++ b/x\n" + body,
		"time":      "--- a/x\t2011-11-11 11:11:11\n+++ b/x\t2011-11-11 ../x\n" + body,
		"new":       "--- /dev/null\n+++ b/x\n" + body,
		"rename":    "diff --git a/x b/y\nsimilarity index 100%\nrename from x\nrename to y\n",
		"mode":      "diff --git a/x b/x\nold mode 100644\nnew mode 100755\n",
		"dots":      "--- a/..x/y..\n+++ b/..x/y..\n" + body,
		"text":      "From: somebody\n\nfix /etc/passwd and ../x\n\n--- a/x\n+++ b/x\n" + body,
		"in a hunk": "--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n--- /etc/passwd\n-+ ../y\n+++ /etc/passwd\n+z\n",
	} {
		if err := checkPatch([]byte(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, text := range map[string]string{
		"absolute":     "--- /etc/passwd\n+++ /etc/passwd\n" + body,
		"above":        "--- a/../../x\n+++ b/x\n" + body,
		"second":       "--- a/x\n+++ b/x\n" + body + "--- a/y\n+++ b/../../y\n" + body,
		"quoted":       "--- a/x\n+++ \"b/\\056./x\"\n" + body,
		"renamed":      "diff --git a/x b/y\nrename from x\nrename to ../../y\n",
		"after a hunk": "--- a/x\n+++ b/x\n@@ -1,9 +1,9 @@\n-a\n+b\ngarbage\n--- /etc/passwd\n+++ /etc/passwd\n" + body,
		"empty":        "",
		"garbage":      "\x00\xff not a patch\n",
	} {
		if err := checkPatch([]byte(text)); err == nil {
			t.Errorf("%s: nil, want an error", name)
		} else if !strings.HasPrefix(err.Error(), "it changes ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
