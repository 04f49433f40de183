// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"dkms-go/internal/ko"
	"dkms-go/internal/mok"
	"dkms-go/internal/run"
)

// Finish are the settings for an object's last stages: strip, sign, compress,
// in that order, since a signature covers the stripped object and the kernel
// expects it before compression.
type Finish struct {
	// Strip is the program to strip with when the object has a shape that
	// only it handles, or for every object if Clang is set.
	Strip string
	Clang bool
	// Sign is nil when objects aren't signed. Without a Signer in it, its
	// SignFile does it; otherwise it is done here, byte for byte as that would.
	Sign *mok.Plan
	// Unsigned says why Sign is nil.
	Unsigned string
	// Compression is what the kernel's own objects have. Compressor, if
	// set, is a command line to use because the user gave options for it.
	Compression ko.Compression
	Compressor  []string
}

// finished is an object ready to be kept.
type finished struct {
	object []byte // uncompressed
	file   []byte // as kept
	suffix string
	// unsigned says why it isn't signed, "" if it is.
	unsigned string
}

// all finishes the objects of a build, in their order: as many at a time as
// there are processors, but one after another if that takes commands, which
// belong to this thread (run.Private).
func (f Finish) all(ctx context.Context, w *work, made []Object) []finished {
	done := make([]finished, len(made))
	if f.Sign != nil && f.Sign.Signer == nil || len(f.Compressor) > 0 {
		for i, o := range made {
			done[i] = f.finish(ctx, w, o)
		}
		return done
	}
	said := make([]struct{ out, err bytes.Buffer }, len(made))
	var side sideBySide
	for i := range made {
		own := *w
		own.Out, own.Err = &said[i].out, &said[i].err
		side.do(func() { done[i] = f.finish(ctx, &own, made[i]) })
	}
	side.wait()
	for i := range said {
		_, _ = w.Out.Write(said[i].out.Bytes())
		_, _ = w.Err.Write(said[i].err.Bytes())
	}
	return done
}

// finish signs and compresses an object. What can't be signed or compressed is
// kept as it is.
func (f Finish) finish(ctx context.Context, w *work, made Object) finished {
	out := finished{object: made.Data, file: made.Data, unsigned: f.Unsigned}
	shown := filepath.Join(w.Tree.Build(w.Key.ID), made.Path)
	if f.Sign != nil {
		fmt.Fprintf(w.Out, "Signing module %s\n", shown)
		signed, err := f.sign(ctx, w, made)
		if err != nil {
			fmt.Fprintf(w.Err, "Warning: %s stays unsigned: %v\n", shown, err)
			out.unsigned = err.Error()
		} else {
			out.object, out.file = signed, signed
		}
	}
	packed, err := f.compress(ctx, w, out.object)
	if err != nil {
		fmt.Fprintf(w.Err, "Warning: %s stays uncompressed: %v\n", shown, err)
		return out
	}
	out.file, out.suffix = packed, string(f.Compression)
	return out
}

// strip has strip(1) take the debug information out of an object.
func (f Finish) strip(ctx context.Context, w *work, made Object) ([]byte, error) {
	return w.apart(made, func(path string) error {
		c := run.Cmd{Argv: []string{f.Strip, "-g", path}, Dir: filepath.Dir(path), Env: w.Env, Stdout: w.Out, Stderr: w.Err}
		_ = c.Run(ctx) // an unstripped object works as well; the tool has said why
		return nil
	})
}

func (f Finish) sign(ctx context.Context, w *work, made Object) ([]byte, error) {
	if f.Sign.Signer != nil {
		return ko.Sign(made.Data, f.Sign.Signer, f.Sign.Hash)
	}
	return w.apart(made, func(path string) error {
		var said strings.Builder
		c := run.Cmd{
			Argv: []string{f.Sign.SignFile, f.Sign.Hash, f.Sign.Key, f.Sign.Cert, path}, Dir: filepath.Dir(path), Stdout: &said, Stderr: &said,
			Env: append(w.Env[:len(w.Env):len(w.Env)], f.Sign.Environ...), Session: true,
		}
		if err := c.Run(ctx); err != nil {
			return fmt.Errorf("%w\n%s", err, strings.TrimSpace(said.String()))
		}
		return nil
	})
}

// apart has a tool change an object, and returns what becomes of it. The tool
// gets a file in a directory of its own: in the build directory its name might
// lead anywhere by now.
func (w *work) apart(made Object, change func(path string) error) ([]byte, error) {
	dir, err := os.MkdirTemp(w.Paths.Temp, "dkms-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, filepath.Base(made.Path))
	if err := os.WriteFile(path, made.Data, 0o644); err != nil {
		return nil, err
	}
	if err := change(path); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

func (f Finish) compress(ctx context.Context, w *work, data []byte) ([]byte, error) {
	if f.Compression == ko.None || len(f.Compressor) == 0 {
		return ko.Compress(data, f.Compression)
	}
	c := run.Cmd{Argv: f.Compressor, Dir: w.dir, Env: w.Env, Stdin: strings.NewReader(string(data)), Stderr: w.Err}
	return c.Output(ctx)
}
