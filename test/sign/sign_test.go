// SPDX-License-Identifier: Apache-2.0

package sign

import (
	"bytes"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dkms-go/internal/ko"
	"dkms-go/test/lab"
)

const marker = "~Module signature appended~\n"

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func write(t *testing.T, path string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// object is one of a kernel's own, without its signature.
func object(t *testing.T) []byte {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(lab.KernelRoot(t), "lib/modules/*/kernel/drivers/net/dummy.ko*"))
	if err != nil || len(found) == 0 {
		t.Fatalf("the lab has no kernel with dummy.ko: %v", err)
	}
	data, err := ko.Read(found[0])
	if err != nil {
		t.Fatal(err)
	}
	return ko.Unsigned(data)
}

// cms cuts the message out of a signed object.
func cms(t *testing.T, signed []byte) []byte {
	t.Helper()
	rest, ok := bytes.CutSuffix(signed, []byte(marker))
	if !ok {
		t.Fatal("no marker at the end")
	}
	size := int(binary.BigEndian.Uint32(rest[len(rest)-4:]))
	return rest[len(rest)-12-size : len(rest)-12]
}

// tree shows DER: every tag, and every value but the last, which in a message
// without unsigned attributes is that of the signature.
func tree(t *testing.T, der []byte) string {
	t.Helper()
	var leaves []string
	var walk func(der []byte, depth int)
	walk = func(der []byte, depth int) {
		for len(der) > 0 {
			var v asn1.RawValue
			rest, err := asn1.Unmarshal(der, &v)
			if err != nil {
				t.Fatal(err)
			}
			head := fmt.Sprintf("%*s%d/%d", depth, "", v.Class, v.Tag)
			if v.IsCompound {
				leaves = append(leaves, head)
				walk(v.Bytes, depth+1)
			} else {
				leaves = append(leaves, fmt.Sprintf("%s %x", head, v.Bytes))
			}
			der = rest
		}
	}
	walk(der, 0)
	last := leaves[len(leaves)-1]
	leaves[len(leaves)-1] = last[:strings.LastIndexByte(last, ' ')]
	return strings.Join(leaves, "\n")
}

// verifies has openssl check the signature at the end of an object; the rest are
// arguments that say what is trusted.
func verifies(t *testing.T, content, message []byte, args ...string) bool {
	t.Helper()
	dir := t.TempDir()
	in, sig := write(t, dir+"/in", content), write(t, dir+"/sig", message)
	return lab.Exec(t, "openssl", append([]string{"cms", "-verify", "-binary", "-inform", "DER", "-in", sig, "-content", in, "-out", dir + "/out"}, args...)...).Code == 0
}

// TestLikeSignFile signs one object with each kind of key and each hash, here and
// with the sign-file of each kernel of the lab, and lets openssl and modinfo tell
// what they find in both.
func TestLikeSignFile(t *testing.T) {
	tools, _ := filepath.Glob(filepath.Join(lab.KernelRoot(t), "usr/lib/linux-kbuild-*/scripts/sign-file"))
	if len(tools) < 2 {
		t.Fatalf("the lab has %d kernels with sign-file, want 2", len(tools))
	}
	content, dir := object(t), t.TempDir()
	in := write(t, dir+"/in.ko", content)
	for _, key := range []struct {
		name string
		args []string
	}{{"RSA-2048", RSA("2048")}, {"RSA-4096", RSA("4096")}, {"P-256", EC("P-256")}, {"P-384", EC("P-384")}} {
		pair := SelfSigned(t, dir, key.name, key.args)
		pem := dir + "/" + key.name + ".pem"
		lab.MustExec(t, "openssl", "x509", "-inform", "DER", "-in", pair.Cert, "-out", pem)
		signer, err := ko.LoadSigner(pair.Key, pair.Cert, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, hash := range []string{"sha256", "sha384", "sha512"} {
			ours, err := ko.Sign(content, signer, hash)
			if err != nil {
				t.Fatal(err)
			}
			path := write(t, dir+"/ours.ko", ours)
			if !verifies(t, content, cms(t, ours), "-certfile", pem, "-nointern", "-noverify") {
				t.Errorf("%s, %s: openssl refuses ours", key.name, hash)
			}
			for _, tool := range tools {
				lab.MustExec(t, tool, hash, pair.Key, pair.Cert, in, dir+"/theirs.ko")
				theirs := read(t, dir+"/theirs.ko")
				series := strings.TrimPrefix(filepath.Base(filepath.Dir(filepath.Dir(tool))), "linux-kbuild-")
				t.Logf("%-8s %s sign-file %s: %s; %s", key.name, hash, series, sameBytes(t, ours, theirs, key.args[1] == "RSA"), sameInfo(t, path, dir+"/theirs.ko", key.args[1] == "RSA"))
			}
		}
	}
}

// sameBytes compares two signed objects. ECDSA signatures are never the same
// twice: there all but their value counts.
func sameBytes(t *testing.T, ours, theirs []byte, deterministic bool) string {
	t.Helper()
	if deterministic {
		if !bytes.Equal(ours, theirs) {
			t.Errorf("the objects differ:\n%x\n%x", cms(t, ours), cms(t, theirs))
		}
		return fmt.Sprintf("all %d bytes equal", len(ours))
	}
	a, b := cms(t, ours), cms(t, theirs)
	if tree(t, a) != tree(t, b) {
		t.Errorf("the messages differ:\n%s\n%s", tree(t, a), tree(t, b))
	}
	head := func(signed, message []byte) []byte { return signed[:len(signed)-len(marker)-12-len(message)] }
	if !bytes.Equal(head(ours, a), head(theirs, b)) {
		t.Error("the contents differ")
	}
	trailer := func(signed []byte) []byte { return signed[len(signed)-len(marker)-12:][:8] } // up to the size
	if !bytes.Equal(trailer(ours), trailer(theirs)) {
		t.Error("the trailers differ")
	}
	return fmt.Sprintf("all bytes equal but the signature's value (%d and %d of them)", len(ours), len(theirs))
}

// sameInfo compares what modinfo prints of the signatures of two objects.
func sameInfo(t *testing.T, ours, theirs string, deterministic bool) string {
	t.Helper()
	about := func(path string) (text string, fields string) {
		for line := range strings.Lines(lab.MustExec(t, "modinfo", path).Stdout) {
			name, _, named := strings.Cut(line, ":")
			switch {
			case named && name == "signature" && !deterministic:
				return text, fields
			case named && (name == "signer" || strings.HasPrefix(name, "sig")):
				fields += " " + name
				text += line
			case strings.HasPrefix(line, "\t"):
				text += line // more of the signature
			}
		}
		return text, fields
	}
	a, fields := about(ours)
	if b, _ := about(theirs); a != b || fields == "" {
		t.Errorf("modinfo says of ours\n%s\nand of sign-file's\n%s", a, b)
	}
	return "modinfo equal:" + fields
}

// TestFlippedBits: whatever bit is turned over in the object, in the signature or
// in what stands behind it, the object is not taken for a signed one.
func TestFlippedBits(t *testing.T) {
	content, dir := object(t), t.TempDir()
	for _, key := range []struct {
		name string
		args []string
	}{{"RSA-2048", RSA("2048")}, {"P-256", EC("P-256")}} {
		pair := SelfSigned(t, dir, key.name, key.args)
		pem := dir + "/" + key.name + ".pem"
		lab.MustExec(t, "openssl", "x509", "-inform", "DER", "-in", pair.Cert, "-out", pem)
		signer, err := ko.LoadSigner(pair.Key, pair.Cert, nil)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := ko.Sign(content, signer, "sha256")
		if err != nil {
			t.Fatal(err)
		}
		refused := func(at, bit int) bool {
			bad := bytes.Clone(signed)
			bad[at] ^= 1 << bit
			sig, ok, err := ko.ParseSignature(bad)
			return err != nil || !ok || sig.Verify(ko.WithoutSignature(bad), signer.Cert) != nil
		}
		message := cms(t, signed)
		trailer := len(signed) - len(marker) - 12
		value := trailer - len(lastValue(t, message))
		count := map[string]int{}
		for name, span := range map[string][3]int{"object": {0, len(content), 997}, "signature": {value, trailer, 1}, "trailer": {trailer, len(signed), 1}} {
			for at := span[0]; at < span[1]; at += span[2] {
				for bit := range 8 {
					count[name]++
					if !refused(at, bit) {
						t.Errorf("%s: bit %d of byte %d, in the %s, may be flipped", key.name, bit, at, name)
					}
				}
			}
		}
		for name, at := range map[string]int{"object": len(content) / 2, "signature": value + 5} {
			bad := bytes.Clone(signed)
			bad[at] ^= 1
			if verifies(t, bad[:len(content)], cms(t, bad), "-certfile", pem, "-nointern", "-noverify") {
				t.Errorf("%s: openssl takes a flipped bit in the %s", key.name, name)
			}
		}
		t.Logf("%s: refused with one bit flipped: %d in the object, %d in the signature, %d in the trailer", key.name, count["object"], count["signature"], count["trailer"])
	}
}

// lastValue returns the last primitive value of DER.
func lastValue(t *testing.T, der []byte) []byte {
	t.Helper()
	for {
		var v asn1.RawValue
		rest, err := asn1.Unmarshal(der, &v)
		switch {
		case err != nil:
			t.Fatal(err)
		case len(rest) > 0:
			der = rest
		case v.IsCompound:
			der = v.Bytes
		default:
			return v.Bytes
		}
	}
}

// TestUnderAuthority embeds the certificate: openssl needs to be told of the
// authority only.
func TestUnderAuthority(t *testing.T) {
	content, dir := object(t), t.TempDir()
	ca, leaf := Authority(t, dir, "fleet")
	other, _ := Authority(t, dir, "other")
	for _, p := range []Pair{ca, other} {
		lab.MustExec(t, "openssl", "x509", "-inform", "DER", "-in", p.Cert, "-out", p.Cert+".pem")
	}
	signer, err := ko.LoadSigner(leaf.Key, leaf.Cert, nil)
	if err != nil {
		t.Fatal(err)
	}
	signer.Embed = true
	signed, err := ko.Sign(content, signer, "sha512")
	if err != nil {
		t.Fatal(err)
	}
	if !verifies(t, content, cms(t, signed), "-purpose", "any", "-CAfile", ca.Cert+".pem") {
		t.Error("openssl refuses it under its authority")
	}
	if verifies(t, content, cms(t, signed), "-purpose", "any", "-CAfile", other.Cert+".pem") {
		t.Error("openssl takes it under another authority")
	}
	content[len(content)/2] ^= 1
	if verifies(t, content, cms(t, signed), "-purpose", "any", "-CAfile", ca.Cert+".pem") {
		t.Error("openssl takes another content")
	}
	sig, _, err := ko.ParseSignature(signed)
	if err != nil || len(sig.Certificates) != 1 || !sig.Certificates[0].Equal(signer.Cert) {
		t.Fatalf("ParseSignature: %v", err)
	}
	if err := sig.Verify(content, sig.Certificates[0]); !errors.Is(err, ko.ErrSignature) {
		t.Errorf("Verify of another content: %v", err)
	}
	path := write(t, dir+"/signed.ko", signed)
	if said := strings.TrimSpace(lab.MustExec(t, "modinfo", "-F", "signer", path).Stdout); said != "fleet authority" {
		t.Errorf("modinfo calls the signer %q", said)
	}
}
