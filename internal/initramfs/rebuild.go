// SPDX-License-Identifier: Apache-2.0

package initramfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"dkms-go/internal/durable"
	"dkms-go/internal/host"
	"dkms-go/internal/run"
)

// Tool is a program that makes images, named as it is called.
type Tool string

// The tools of the distributions.
const (
	NoTool          Tool = ""
	UpdateInitramfs Tool = "update-initramfs" // initramfs-tools: Debian, Ubuntu
	Dracut          Tool = "dracut"           // Fedora, SUSE, others by choice
	Mkinitcpio      Tool = "mkinitcpio"       // Arch
)

var (
	// ErrNoImage says that a kernel has no image. One whose package is being
	// installed gets its first from that package's own hooks.
	ErrNoImage = errors.New("the kernel has no initramfs")
	// ErrNoTool says that none of the tools is there.
	ErrNoTool = errors.New("no update-initramfs, dracut or mkinitcpio is installed")
	// ErrUnchanged says that the tool ended well and left the image as it was,
	// as update-initramfs does with update_initramfs=no or a read-only /boot.
	ErrUnchanged = errors.New("the tool left the image as it was")
)

// Owner returns the tool that makes the image of a kernel on this machine;
// false says that there is none in PATH of env.
//
// An image initrd.img-K is update-initramfs's if that is there, as it writes
// no other name; so is a kernel without an image. Where both other tools are,
// kernel-install's choice counts (initrd_generator in install.conf,
// kernel-install(8)), then a preset of mkinitcpio for the kernel's package.
func Owner(p host.Paths, release string, env []string) (Tool, bool) {
	has := func(t Tool) bool {
		_, err := run.LookPath(string(t), env)
		return err == nil
	}
	image, exists := Find(p, release)
	debian := !exists || filepath.Base(image) == "initrd.img-"+release
	chosen := generator(p)
	switch {
	case debian && has(UpdateInitramfs):
		return UpdateInitramfs, true
	case (chosen == Dracut || chosen == Mkinitcpio) && has(chosen):
		return chosen, true
	case has(Mkinitcpio) && (!has(Dracut) || hasPreset(p, pkgbase(p, release))):
		return Mkinitcpio, true
	case has(Dracut):
		return Dracut, true
	}
	return NoTool, false
}

// generator returns what install.conf says makes images, in small letters as
// tools are called.
func generator(p host.Paths) Tool {
	text, _ := readSmall(filepath.Join(p.KernelInstall, "install.conf")) // none: no choice
	var tool Tool
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "initrd_generator="); ok {
			tool = Tool(strings.Trim(value, `"'`))
		}
	}
	return tool
}

func hasPreset(p host.Paths, base string) bool {
	return base != "" && isImage(filepath.Join(p.MkinitcpioPresets, base+".preset"))
}

// Rebuilt is what Rebuild did.
type Rebuilt struct {
	Tool  Tool
	Image string
	Line  string // the command, to replay it
}

// Rebuild has the machine's tool make the image of one kernel again, once, from
// what is installed for it. Call it after depmod. The tool's output goes to out.
//
// Only an image that exists is made again: without, the error is ErrNoImage.
// Other kernels' images are never touched. When Rebuild fails, the old image
// is still there, unless the last line says otherwise:
//
//   - update-initramfs -u -k K makes K's image beside the old one and renames it.
//   - dracut and mkinitcpio write their output in place, and dracut removes it
//     when it fails. They are told to write to <image>.dkms-new, which is
//     checked, synced and renamed here.
//   - A preset of mkinitcpio names its images itself, all of one kernel; it
//     is run with -p, and a copy of the image is kept at <image>.dkms-old
//     meanwhile and put back when that fails. A kill in between leaves both.
func Rebuild(ctx context.Context, p host.Paths, release string, env []string, out io.Writer) (Rebuilt, error) {
	var r Rebuilt
	image, ok := Find(p, release)
	if !ok {
		return r, fmt.Errorf("making the initramfs of kernel %s again: %w", release, ErrNoImage)
	}
	tool, ok := Owner(p, release, env)
	if !ok {
		return r, fmt.Errorf("making the initramfs of kernel %s again: %w", release, ErrNoTool)
	}
	r = Rebuilt{Tool: tool, Image: image}
	before, err := os.Stat(image)
	if err != nil {
		return r, fmt.Errorf("making the initramfs of kernel %s again: %w", release, err)
	}
	aside := image + ".dkms-new"
	var argv []string
	change := replaceImage
	switch base := pkgbase(p, release); {
	case tool == UpdateInitramfs:
		argv, change = []string{"update-initramfs", "-u", "-k", release}, inPlace
	case tool == Dracut:
		argv = []string{"dracut", "--force", aside, release}
	case hasPreset(p, base) && image == presetImage(p, base):
		argv, change = []string{"mkinitcpio", "-p", base}, keepCopy
	default:
		argv = []string{"mkinitcpio", "-k", release, "-g", aside}
	}
	cmd := run.Cmd{Argv: argv, Env: env, Stdout: out, Stderr: out}
	r.Line = cmd.Line()
	err = change(image, func() error { return cmd.Run(ctx) })
	if after, statErr := os.Stat(image); err == nil && statErr == nil && unchanged(before, after) {
		err = ErrUnchanged
	}
	if err != nil {
		return r, fmt.Errorf("making the initramfs of kernel %s again: %w", release, err)
	}
	return r, nil
}

// unchanged reports whether both are of one file that wasn't written to.
func unchanged(before, after fs.FileInfo) bool {
	return os.SameFile(before, after) && before.ModTime().Equal(after.ModTime()) && before.Size() == after.Size()
}

// inPlace is for a tool that takes care of the image itself.
func inPlace(_ string, tool func() error) error { return tool() }

// replaceImage runs a tool that writes <image>.dkms-new, and puts that in the
// place of the image.
func replaceImage(image string, tool func() error) (err error) {
	aside := image + ".dkms-new"
	if err := os.Remove(aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(aside)
		}
	}()
	if err := tool(); err != nil {
		return err
	}
	if err := looksRight(aside); err != nil {
		return err
	}
	if fi, err := os.Stat(image); err == nil {
		if err := os.Chmod(aside, fi.Mode().Perm()); err != nil {
			return err
		}
	}
	if err := durable.Sync(aside); err != nil {
		return err
	}
	if err := os.Rename(aside, image); err != nil {
		return err
	}
	return durable.Sync(filepath.Dir(image))
}

// keepCopy runs a tool that writes to the image, and puts the old one back if
// it fails.
func keepCopy(image string, tool func() error) error {
	old := image + ".dkms-old"
	if err := durable.Copy(image, old); err != nil {
		os.Remove(old)
		return err
	}
	err := tool()
	if err == nil {
		err = looksRight(image)
	}
	if err == nil {
		return os.Remove(old)
	}
	return errors.Join(err, os.Rename(old, image), durable.Sync(filepath.Dir(image)))
}

// looksRight reads what a tool made to its end: a full disk or a tool of
// another mind (a unified image) shows here.
func looksRight(image string) error {
	entries := 0
	err := open(image, func(entry) error { entries++; return nil })
	if errors.Is(err, errors.ErrUnsupported) {
		return nil // the kernel may read it, we don't
	}
	if err == nil && entries == 0 {
		err = errors.New("there is nothing in it")
	}
	if err != nil {
		return fmt.Errorf("checking the new image: %w", err)
	}
	return nil
}
