// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
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
	// Sign is nil when objects aren't signed. External makes Sign.SignFile
	// do it; otherwise it is done here, byte for byte as that would.
	Sign     *mok.Plan
	Signer   *ko.Signer
	External bool
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
	signed bool
}

// stripped returns the object at path, without debug information if strip says
// so.
func (f Finish) stripped(ctx context.Context, w *work, path string, strip bool) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading an object: %w", err)
	}
	if !strip {
		return data, nil
	}
	return f.strip(ctx, w, path, data)
}

// finish signs and compresses an object. What can't be signed or compressed is
// kept as it is.
func (f Finish) finish(ctx context.Context, w *work, made Object) finished {
	out := finished{object: made.Data, file: made.Data}
	shown := filepath.Join(w.Tree.Build(w.Key.ID), made.Path)
	if f.Sign != nil {
		fmt.Fprintf(w.Out, "Signing module %s\n", shown)
		signed, err := f.sign(ctx, w, filepath.Join(w.dir, made.Path), made.Data)
		if err != nil {
			fmt.Fprintf(w.Err, "Warning: %s stays unsigned: %v\n", shown, err)
		} else {
			out.object, out.file, out.signed = signed, signed, true
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

func (f Finish) strip(ctx context.Context, w *work, path string, data []byte) ([]byte, error) {
	if !f.Clang {
		stripped, err := ko.Strip(data)
		if err == nil || !errors.Is(err, ko.ErrUnsupported) {
			return stripped, err
		}
	}
	c := run.Cmd{Argv: []string{f.Strip, "-g", path}, Dir: w.dir, Env: w.Env, Stdout: w.Out, Stderr: w.Err}
	if err := c.Run(ctx); err != nil {
		return data, nil // an unstripped object works as well; the tool has said why
	}
	return os.ReadFile(path)
}

func (f Finish) sign(ctx context.Context, w *work, path string, data []byte) ([]byte, error) {
	if !f.External {
		return ko.Sign(data, f.Signer, f.Sign.Hash)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		return nil, err
	}
	var said strings.Builder
	c := run.Cmd{Argv: []string{f.Sign.SignFile, f.Sign.Hash, f.Sign.Key, f.Sign.Cert, path}, Dir: w.dir, Env: w.Env, Stdout: &said, Stderr: &said}
	if err := c.Run(ctx); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, strings.TrimSpace(said.String()))
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
