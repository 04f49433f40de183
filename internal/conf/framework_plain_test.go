// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"dkms-go/internal/host"
)

// TestPlainFramework holds the short way through framework.conf against the shell's:
// where it answers, it answers the same.
func TestPlainFramework(t *testing.T) {
	texts := map[string]bool{
		"":                             true,
		"# only\n\n \t# comments \\\n": true,
		"dkms_tree=/a\nsource_tree=\"/b\"\ninstall_tree='/c'": true,
		"verbose=\"\"\n  symlink_modules=yes \t\n":            true,
		"compress_xz_opts=\"--check=crc32 -9\"\nsign_file=":   true,
		"parallel_jobs=1\nparallel_jobs=2\n":                  true,
		"boot_gate=on # comment\n":                            false,
		"dkms_tree=/a;source_tree=/b\n":                       false,
		"dkms_tree=$HOME\n":                                   false,
		"dkms_tree=~/x\n":                                     false,
		"dkms_tree=/a b\n":                                    false,
		"dkms_tree=\"/a  b\"\n":                               false,
		"dkms_tree=\" /a\"\n":                                 false,
		"dkms_tree=/*\n":                                      false,
		"dkms_tree=\"/a\"b\"\n":                               false,
		"dkms_tree=/a\r\n":                                    false,
		"dkms_tree=/a\\\nb\n":                                 false,
		"verbose[0]=1\n":                                      false,
		"unknown=1\n":                                         false,
		"IFS=,\nverbose=1\n":                                  false,
		"export verbose=1\n":                                  false,
		"verbose+=1\n":                                        false,
	}
	for text, short := range texts {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "framework.conf"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		l := &Loader{Paths: host.Paths{ConfDir: dir, DKMSTree: "/t", SourceTree: "/s", InstallTree: "/i", Temp: "/tmp"}, Environ: []string{"PATH=/bin", "parallel_jobs=3"}}
		files, err := readConfs([]string{filepath.Join(dir, "framework.conf")})
		if err != nil {
			t.Fatal(err)
		}
		v, ok := l.plainFramework(files)
		if ok != short {
			t.Errorf("%q: taken for plain: %v", text, ok)
			continue
		}
		e := l.newEvaluation(frameworkNames(), files)
		e.values = l.frameworkDefaults()
		out, err := l.evaluate(context.Background(), e, Auto)
		if err != nil {
			t.Fatal(err)
		}
		if ok && !maps.EqualFunc(v, out.vars, func(a, b Array) bool { return maps.Equal(a, b) }) {
			t.Errorf("%q: %v, the shell says %v", text, v, out.vars)
		}
	}
	l := &Loader{Environ: []string{"post_transaction=a  b"}}
	if _, ok := l.plainFramework([]confFile{{text: "verbose=1\n"}}); ok {
		t.Error("a value of the environment is evaluated again")
	}
	l.Environ = []string{"DKMS_DIRECTIVE_1=verbose=1"}
	if _, ok := l.plainFramework(nil); ok {
		t.Error("a directive of the environment was passed over")
	}
}
