// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"maps"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseConfig(t *testing.T) {
	text := "#\n# Linux/x86 6.1.0 Kernel Configuration\n#\nCONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\nCONFIG_D=\"a=b c\"\r\n" +
		"CONFIG_E=0x10\n CONFIG_F=y\nCONFIG_G\nCONFIG_=y\nOTHER=y\nCONFIG_H=n\nCONFIG_I=yes\nCONFIG_J=a\nCONFIG_J=b\nCONFIG_K="
	want := Config{"CONFIG_A": "y", "CONFIG_B": "m", "CONFIG_D": `"a=b c"`, "CONFIG_E": "0x10", "CONFIG_H": "n", "CONFIG_I": "yes", "CONFIG_J": "b", "CONFIG_K": ""}
	c := ParseConfig(text)
	if !maps.Equal(c, want) {
		t.Errorf("ParseConfig = %q, want %q", c, want)
	}
	for symbol, enabled := range map[string]bool{"CONFIG_A": true, "CONFIG_B": true, "CONFIG_C": false, "CONFIG_D": false, "CONFIG_H": false, "CONFIG_I": false, "CONFIG_Z": false} {
		if c.Enabled(symbol) != enabled {
			t.Errorf("Enabled(%s) = %v", symbol, !enabled)
		}
	}
	if c.Text("CONFIG_D") != "a=b c" || c.Text("CONFIG_Z") != "" {
		t.Errorf("Text = %q, %q", c.Text("CONFIG_D"), c.Text("CONFIG_Z"))
	}
}

func TestReadConfigBounded(t *testing.T) {
	path := writeFile(t, filepath.Join(t.TempDir(), "c"), strings.Repeat("#", maxText+1))
	if _, err := ReadConfig(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("ReadConfig of an endless file: %v", err)
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add("CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_CC_VERSION_TEXT=\"gcc (x) 12\"\n")
	f.Add("CONFIG_CC_VERSION_TEXT=\"\"a b")
	f.Fuzz(func(t *testing.T, text string) {
		c := ParseConfig(text)
		var again strings.Builder
		for name, value := range c {
			if !strings.HasPrefix(name, "CONFIG_") || strings.Contains(value, "\n") {
				t.Errorf("%q gives %q=%q", text, name, value)
			}
			again.WriteString(name + "=" + value + "\n")
		}
		if !maps.Equal(ParseConfig(again.String()), c) {
			t.Errorf("%q isn't read back", again.String())
		}
		if cc := c.compiler(); strings.ContainsAny(cc, "\" \n") {
			t.Errorf("compiler is %q", cc)
		}
		c.SigHash()
		c.arch()
	})
}
