// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dkms-go/internal/conf"
	"dkms-go/internal/host"
)

// What status, list, verify, ready, doctor, lint, log and metrics read of dkms's own executes
// nothing, framework.conf included.
func TestReadOnlyVerbsRunNoCommands(t *testing.T) {
	for _, v := range Verbs() {
		if want := slices.Contains([]string{"status", "list", "verify", "ready", "doctor", "lint", "log", "metrics"}, v.Name); v.ReadOnly != want {
			t.Errorf("%s: ReadOnly is %v", v.Name, v.ReadOnly)
		}
	}
	dir := t.TempDir()
	mark := filepath.Join(dir, "ran")
	text := "dkms_tree=/first\nsource_tree=$(touch " + mark + "; echo /second)\n"
	if err := os.WriteFile(filepath.Join(dir, "framework.conf"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	l := conf.Loader{Paths: host.Paths{ConfDir: dir}, Environ: os.Environ(), Stderr: &said, Policy: conf.NoExec}
	fw, err := l.Framework(context.Background(), "")
	if err != nil || fw.DKMSTree != "/first" || !strings.Contains(strings.Join(fw.Refused, " "), "touch") {
		t.Errorf("%+v, %v", fw, err)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("a command was run")
	}
	l.Policy = conf.Auto
	if fw, err := l.Framework(context.Background(), ""); err != nil || fw.SourceTree != "/second" || len(fw.Refused) > 0 {
		t.Errorf("%+v, %v", fw, err)
	}
}
