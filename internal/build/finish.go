// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
	"fmt"
	"os"
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

func (f Finish) finish(ctx context.Context, w *work, path string, strip bool) (finished, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return finished{}, fmt.Errorf("reading an object: %w", err)
	}
	if strip {
		if data, err = f.strip(ctx, w, path, data); err != nil {
			return finished{}, err
		}
	}
	out := finished{object: data, file: data}
	if f.Sign != nil {
		fmt.Fprintf(w.Out, "Signing module %s\n", path)
		signed, err := f.sign(ctx, w, path, data)
		if err != nil {
			fmt.Fprintf(w.Err, "Warning: %s stays unsigned: %v\n", path, err)
		} else {
			out.object, out.file, out.signed = signed, signed, true
		}
	}
	packed, err := f.compress(ctx, w, out.object)
	if err != nil {
		fmt.Fprintf(w.Err, "Warning: %s stays uncompressed: %v\n", path, err)
		return out, nil
	}
	out.file, out.suffix = packed, string(f.Compression)
	return out, nil
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
