// SPDX-License-Identifier: Apache-2.0

package fingerprint

import (
	"strings"
	"testing"

	"dkms-go/internal/kernel"
)

func TestOptions(t *testing.T) {
	image := kernel.ParseConfig("CONFIG_A=y\nCONFIG_B=\"text \\\"x\\\"\"\n# CONFIG_C is not set\nCONFIG_D=\"\"\n")
	headers := kernel.ParseConfig("CONFIG_B=text x\nCONFIG_A=y\nCONFIG_BUILD_SALT=6.1\nCONFIG_MODULE_SIG_KEY=output/key.pem\n")
	if OptionsOf(image) != OptionsOf(headers) {
		t.Error("the image's and the headers' configuration differ")
	}
	headers["CONFIG_A"] = "m"
	if OptionsOf(image) == OptionsOf(headers) {
		t.Error("another value makes no difference")
	}
}

func TestCompare(t *testing.T) {
	full := Kernel{Release: "6.1", Arch: "x86_64", UTSVersion: "#1", Compiler: "gcc", Options: "aa", Exports: "bb", HasCRCs: true, Signer: "01"}
	if diff := full.Differences(full); len(diff) > 0 {
		t.Error(diff)
	}
	bare := full
	bare.Signer, bare.Options = "", ""
	if diff := bare.Differences(full); len(diff) > 0 {
		t.Error("what one doesn't tell counts: ", diff)
	}
	if missing, ok := bare.Enough(full); !ok || len(missing) != 1 {
		t.Error(missing, ok)
	}
	bare.HasCRCs = false // names of symbols alone tell little
	if _, ok := bare.Enough(full); ok {
		t.Error("the version alone is enough")
	}
	for name, change := range map[string]func(*Kernel){
		"release": func(k *Kernel) { k.Release = "6.2" }, "architecture": func(k *Kernel) { k.Arch = "arm" }, "uname -v": func(k *Kernel) { k.UTSVersion = "#2" },
		"compiler": func(k *Kernel) { k.Compiler = "clang" }, "configuration": func(k *Kernel) { k.Options = "x" },
		"CRCs": func(k *Kernel) { k.Exports = "x" }, "signer": func(k *Kernel) { k.Signer = "02" },
	} {
		other := full
		change(&other)
		if diff := full.Differences(other); len(diff) != 1 || !strings.Contains(diff[0], name) {
			t.Errorf("%s: %q", name, diff)
		}
	}
}
