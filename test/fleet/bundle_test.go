// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"strings"
	"testing"

	"dkms-go/test/lab"
)

// TestBundle has a machine without tools install what another one has exported, and
// refuse what isn't that.
func TestBundle(t *testing.T) {
	_, k := lab.Kernels(t)
	b, m := builder(t), target(t)
	b.module("1.0", "POST_INSTALL=scripts/post.sh\n")
	b.writeMode("usr/src/tiny-1.0/scripts/post.sh", []byte("#!/bin/sh\necho it was installed\n"), 0o755)
	b.ok("build", "tiny/1.0", "-k", k)
	b.ok("export", "tiny/1.0", "-k", k, "--sign", "/root/key", "--output", "/root")
	file := "/root/tiny-" + k + "-1.0.tar.gz"
	b.give(m, file)
	for _, tool := range []string{"gcc", "make", "ld"} {
		if m.Run("sh", "-c", "command -v "+tool).Code == 0 {
			t.Fatalf("the target has %s", tool)
		}
	}

	before := m.sum()
	says(t, m.ends(40, "import", file), "No key is trusted to sign prebuilt modules")
	b.ok("key", "generate", "--bundle", "/root/stranger")
	b.give(m, "root/stranger.pub")
	m.MustRun("sh", "-c", "mkdir -p /etc/dkms/trust.d && mv /root/stranger.pub /etc/dkms/trust.d")
	before = m.sum()
	says(t, m.ends(40, "import", file), "not signed by a trusted key", "Nothing of it was unpacked")
	unchanged(t, m, before, "an unknown signer")

	b.give(m, "root/key.pub")
	m.MustRun("mv", "/root/key.pub", "/etc/dkms/trust.d")
	refused(t, b, m, file)

	says(t, m.ok("import", file), "Installing /lib/modules/"+k+"/updates/dkms/tiny.ko", "it was installed")
	if got, want := m.ok("status"), "tiny/1.0, "+k+", "+arch+": installed\n"; got != want {
		t.Errorf("status says %q, want %q", got, want)
	}
	says(t, m.ok("status", "--json"), `"origin": "prebuilt"`, `"trusted_by": "/etc/dkms/trust.d/key.pub"`)
	says(t, m.ok("status", "--verbose"), "origin: prebuilt, from "+file)
	says(t, m.MustRun("modprobe", "-n", "-v", "-S", k, "tiny").Stdout, "insmod /lib/modules/"+k+"/updates/dkms/tiny.ko")
	object := "var/lib/dkms/tiny/1.0/" + k + "/" + arch + "/module/tiny.ko.xz"
	if !bytes.Equal(b.read(object), m.read(object)) || !bytes.Equal(b.read(object), m.read("usr/lib/modules/"+k+"/updates/dkms/tiny.ko.xz")) {
		t.Error("the object isn't the one that was built, byte by byte")
	}
	m.ok("verify")
	says(t, m.ok("fsck"), "in order")

	// The same release, built again, comes in the place of the kernel.
	image := m.read("boot/vmlinuz-" + k)
	m.writeMode("boot/vmlinuz-"+k, bytes.ReplaceAll(image, []byte("#1 SMP"), []byte("#2 SMP")), 0o644)
	says(t, m.ok("status"), "installed (Stale: changed since it was built: the kernel's version)")
	says(t, m.ends(11, "autoinstall", "-k", k), "came prebuilt, without its source")
	says(t, m.ok("status"), "tiny/1.0, "+k+", "+arch+": installed") // it stays
	m.writeMode("boot/vmlinuz-"+k, image, 0o644)
	if got := m.ok("status"); strings.Contains(got, "Stale") {
		t.Error(got)
	}

	m.ok("remove", "tiny/1.0", "--all")
	if left := m.MustRun("find", "/var/lib/dkms", "/usr/src", "-mindepth", "1").Stdout; left != "" {
		t.Errorf("what is left:\n%s", left)
	}
}

func unchanged(t *testing.T, m machine, before, what string) {
	t.Helper()
	if m.sum() != before {
		t.Errorf("%s: something has changed on the disk", what)
	}
}

// refused has a machine import bundles that somebody has changed, and one for another
// build of its kernel.
func refused(t *testing.T, b, m machine, file string) {
	t.Helper()
	_, k := lab.Kernels(t)
	good := b.read(file)
	bad := "/root/bad.tar.gz"
	try := func(what string, data []byte, code int, words ...string) {
		t.Helper()
		m.writeMode(bad, data, 0o644)
		before := m.sum()
		says(t, m.ends(code, "import", bad), words...)
		unchanged(t, m, before, what)
	}
	flip := func(entry string) []byte {
		return repack(t, good, func(h *tar.Header, data []byte) []byte {
			if strings.HasSuffix(h.Name, entry) {
				data[len(data)/2] ^= 1
			}
			return data
		})
	}
	try("a flipped byte of an object", flip(".ko.xz"), 7, "its digest is another")
	try("a flipped byte of the conf", flip("dkms.conf"), 7, "its digest is another")
	try("a flipped byte of the manifest", flip("manifest.json"), 40, "doesn't fit the content")
	try("a flipped byte of the signature", flip("dsse.json"), 40)
	middle := bytes.Clone(good)
	middle[len(middle)/2] ^= 1
	m.writeMode(bad, middle, 0o644)
	before := m.sum()
	if r := m.Run("dkms", "import", bad); r.Code != 7 && r.Code != 40 {
		t.Errorf("a flipped byte of the file: %d %s", r.Code, r.Stderr)
	}
	unchanged(t, m, before, "a flipped byte of the file")
	try("a file cut short", good[:len(good)-20], 7, "not a bundle")
	try("a path that leads out", repack(t, good, func(h *tar.Header, data []byte) []byte {
		if strings.HasSuffix(h.Name, ".ko.xz") {
			h.Name = "../../../../lib/modules/" + k + "/evil.ko"
		}
		return data
	}), 7, `"../../../../lib/modules/`)
	try("a link", repack(t, good, func(h *tar.Header, data []byte) []byte {
		if strings.HasSuffix(h.Name, ".ko.xz") {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, "/etc/passwd", 0
			return nil
		}
		return data
	}), 7, "is no file")

	// The same release in another configuration, with the same symbols.
	m.MustRun("cp", "/boot/config-"+k, "/var/config")
	m.MustRun("sh", "-c", "sed -i 's/^CONFIG_HZ=.*/CONFIG_HZ=999/' /boot/config-"+k)
	try("another configuration", good, 41, "the configuration:")
	m.MustRun("cp", "/var/config", "/boot/config-"+k)
	// The same configuration, built again.
	image := m.read("boot/vmlinuz-" + k)
	m.writeMode("boot/vmlinuz-"+k, bytes.Replace(image, []byte("#1 SMP"), []byte("#2 SMP"), -1), 0o644)
	try("another build", good, 41, "the version (uname -v): #2 SMP")
	m.writeMode("boot/vmlinuz-"+k, image, 0o644)
	// Nothing that tells.
	m.MustRun("sh", "-c", "mkdir /var/boot && mv /boot/* /var/boot")
	try("a kernel that tells nothing", good, 41, "can't be told", "its version (uname -v), its configuration, its exported symbols")
	m.MustRun("sh", "-c", "mv /var/boot/* /boot && rmdir /var/boot && rm /root/bad.tar.gz")
}

// repack changes entries of a bundle.
func repack(t *testing.T, bundle []byte, change func(h *tar.Header, data []byte) []byte) []byte {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(bundle))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	from, to := tar.NewReader(zip), tar.NewWriter(zipped)
	for {
		h, err := from.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(from)
		if err != nil {
			t.Fatal(err)
		}
		data = change(h, data)
		if err := to.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := to.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	to.Close()
	zipped.Close()
	return out.Bytes()
}
