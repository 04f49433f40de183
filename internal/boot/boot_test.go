// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"dkms-go/internal/host"
)

// disk is a machine's boot files below a temporary directory.
type disk struct {
	t *testing.T
	host.Paths
	top string
}

func newDisk(t *testing.T) disk {
	t.Helper()
	top := t.TempDir()
	in := func(path string) string { return filepath.Join(top, path) }
	return disk{t, host.Paths{
		Boot: in("boot"), GRUBDirs: []string{in("boot/grub"), in("boot/grub2")}, GRUBGate: in("default/grub.d/dkms-gate.cfg"),
		LoaderRoots: []string{in("efi"), in("boot"), in("boot/efi")}, EFIVars: in("efivars"),
	}, top}
}

func (d disk) write(path, text string) {
	d.t.Helper()
	path = filepath.Join(d.top, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		d.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		d.t.Fatal(err)
	}
}

func (d disk) variable(name, text string) {
	data := []byte{7, 0, 0, 0}
	for _, c := range utf16.Encode([]rune(text + "\x00")) {
		data = binary.LittleEndian.AppendUint16(data, c)
	}
	d.write("efivars/"+name+"-"+loaderVendor, string(data))
}

func (d disk) want(next, always, entry string) Choice {
	d.t.Helper()
	c, err := Next(d.Paths)
	if err != nil {
		d.t.Fatal(err)
	}
	if c.Release != next || c.Default != always || entry != "" && c.Entry != entry {
		d.t.Errorf("%+v, want %s, always %s, entry %q", c, next, always, entry)
	}
	return c
}

func (d disk) wantError(text string) {
	d.t.Helper()
	if c, err := Next(d.Paths); err == nil || !strings.Contains(err.Error(), text) {
		d.t.Errorf("%+v, %v; want an error with %q", c, err, text)
	}
}

func TestNoLoader(t *testing.T) {
	d := newDisk(t)
	d.wantError("no boot loader's configuration")
	for _, name := range []string{"vmlinuz-6.9.1", "vmlinuz-6.10.1", "System.map-6.12.1", "initrd.img-6.99", "vmlinuz-rescue", "vmlinuz"} {
		d.write("boot/"+name, "")
	}
	if c := d.want("6.10.1", "6.10.1", ""); c.Loader != NoLoader || !strings.Contains(c.Why, "no configuration") {
		t.Errorf("%+v", c)
	}
	if _, err := Pin(t.Context(), d.Paths, "6.9.1"); err == nil {
		t.Error("pinned without a boot loader")
	}
}

// The loader that tells the firmware so is the one in use.
func TestLoaderInfo(t *testing.T) {
	d := newDisk(t)
	d.write("boot/grub/grub.cfg", "menuentry a {\nlinux /vmlinuz-1.1\n}\n")
	d.write("efi/loader/entries/b.conf", "linux /vmlinuz-2.2\n")
	d.want("1.1", "1.1", "a")
	d.variable("LoaderInfo", "systemd-boot 252.39")
	d.want("2.2", "2.2", "b.conf")
	d.variable("LoaderInfo", "GRUB 2.12")
	d.want("1.1", "1.1", "a")
}

func TestRelease(t *testing.T) {
	d := newDisk(t)
	image := make([]byte, 0x400)
	copy(image[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(image[0x20e:], 0x100)
	copy(image[0x300:], "6.6.6-arch1-1 (linux@archlinux) #1 SMP")
	d.write("boot/vmlinuz-linux", string(image))
	d.write("boot/vmlinuz-short", "HdrS")
	for _, tt := range []struct{ image, version, want string }{
		{"/boot/vmlinuz-6.1.0-1-amd64", "", "6.1.0-1-amd64"},
		{"($root)/vmlinuz-6.1.efi.signed", "", "6.1"},
		{`\EFI\Linux\vmlinuz-6.2`, "", "6.2"},
		{"/token/6.5.6-300.fc39.x86_64/linux", "other", "6.5.6-300.fc39.x86_64"},
		{"/vmlinuz-linux", "7", "6.6.6-arch1-1"},
		{"/vmlinuz-short", "7", "7"},
		{"/vmlinuz-gone", "", ""},
		{"/vmlinuz-../6", "", ""},
		{"/linux", "", ""},
		{"", "6.1", ""},
	} {
		if got := release(d.Paths, tt.image, tt.version); got != tt.want {
			t.Errorf("release(%q, %q) = %q, want %q", tt.image, tt.version, got, tt.want)
		}
	}
}

func TestVariable(t *testing.T) {
	for in, want := range map[string]string{"": "", "abc": "", "\a\x00\x00\x00x": "", "\a\x00\x00\x00a\x00b\x00": "ab", "\a\x00\x00\x00a\x00\x00\x00b\x00": "a"} {
		if got := parseVariable([]byte(in)); got != want {
			t.Errorf("%q is %q, want %q", in, got, want)
		}
	}
	d := newDisk(t)
	d.write("efivars/LoaderInfo-"+loaderVendor, strings.Repeat("x", maxVariable+1))
	d.wantError("more than 65536 bytes")
}
