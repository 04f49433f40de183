// SPDX-License-Identifier: Apache-2.0

package initramfs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dkms-go/internal/host"
)

// FuzzLists reads configurations of the tools that make images: each name is a word
// of the text.
func FuzzLists(f *testing.F) {
	f.Add("# c\nMODULES=(a b? 'c d' \"e$x\")\nadd_drivers+=\" f =g h.ko \"\n")
	f.Add("initrd_generator='dracut'\na-b\n  #c d\n")
	f.Add("\"\"&0\xee")
	f.Add("MODULES+=(\"\"&0\xee)")
	dir := f.TempDir()
	p := host.Paths{InitramfsTools: dir, InitramfsToolsShare: filepath.Join(dir, "share"), KernelInstall: dir}
	file := filepath.Join(dir, "modules")
	f.Fuzz(func(t *testing.T, text string) {
		for _, name := range []string{file, filepath.Join(dir, "install.conf")} {
			if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		plain, err := plainLists(p)
		if err != nil && len(text) < maxConfig {
			t.Error(err)
		}
		shell, err := shellLists([]string{file}, []string{"MODULES", "add_drivers"})
		if err != nil && shell != nil {
			t.Errorf("an error, and %v", shell)
		}
		for _, l := range append(plain, shell...) {
			if l.Name == "" || len(l.Name) > len(text) || strings.ContainsAny(l.Name, " \n\t") {
				t.Errorf("%q gives %q", text, l.Name)
			}
		}
		generator(p)
	})
}
