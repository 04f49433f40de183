// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"dkms-go/internal/ko"
	"dkms-go/internal/state"
	"dkms-go/internal/untrusted"
	"dkms-go/internal/verify"
)

// place finishes the objects of the product and puts the result into its place.
func (w *work) place(ctx context.Context) error {
	var err error
	if w.change, err = w.Tree.Begin(); err != nil {
		return err
	}
	if w.staged, err = w.change.Stage(w.Tree.Result(w.Key)); err != nil {
		return err
	}
	for _, dir := range []string{w.staged, filepath.Join(w.staged, "module"), filepath.Join(w.staged, "log")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return fmt.Errorf("preparing the result: %w", err)
		}
	}
	if w.product.Symvers != nil {
		if err := w.write("module/Module.symvers", w.product.Symvers); err != nil {
			return fmt.Errorf("keeping Module.symvers: %w", err)
		}
	}
	for i, data := range w.Finish.all(ctx, w, w.product.Objects) {
		if err := w.object(w.product.Objects[i], data); err != nil {
			return err
		}
	}
	if err := w.verify(); err != nil {
		return err
	}
	for dep, version := range w.Depends {
		if err := w.write(".dep_"+dep, []byte(version+"\n")); err != nil {
			return fmt.Errorf("recording a dependency: %w", err)
		}
	}
	if err := w.keepPlaced(); err != nil {
		return err
	}
	if err := w.writeRecord(); err != nil {
		return err
	}
	if err := w.stageLog(); err != nil {
		return err
	}
	return w.change.Commit()
}

// stageLog puts the log so far into the result and beside it.
func (w *work) stageLog() (err error) {
	if w.log != nil {
		w.product.Log, err = w.log.text()
	}
	if err == nil {
		err = w.write("log/make.log", w.product.Log)
	}
	if err == nil {
		err = w.change.StageFile(w.Tree.KeptLog(w.Key), w.product.Log, 0o644)
	}
	if err != nil {
		return fmt.Errorf("keeping make.log: %w", err)
	}
	return nil
}

// maxPlaced bounds the list of what is installed, in bytes.
const maxPlaced = 4 << 20

// keepPlaced hands the list of what is installed on to a result that takes the
// place of the installed one.
func (w *work) keepPlaced() error {
	if !w.Tree.Installed(w.Key) {
		return nil
	}
	list, err := untrusted.ReadFile(w.Tree.PlacedList(w.Key), maxPlaced)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = w.write(filepath.Base(w.Tree.PlacedList(w.Key)), list)
	}
	if err != nil {
		return fmt.Errorf("keeping the list of installed objects: %w", err)
	}
	return nil
}

// object adds a finished object to the result.
func (w *work) object(made Object, data finished) error {
	o := w.Conf.Objects[made.Index]
	info, err := ko.ParseInfo(data.object)
	if err != nil {
		return fmt.Errorf("reading %s: %w", made.Path, err)
	}
	file := o.Dest + ".ko" + data.suffix
	if err := w.write("module/"+file, data.file); err != nil {
		return fmt.Errorf("keeping %s: %w", file, err)
	}
	w.files = append(w.files, verify.File{Name: file, Path: filepath.Join(w.Tree.Objects(w.Key), file), Data: data.file, Object: data.object})
	sum := sha256.Sum256(data.file)
	w.record.Signed = w.record.Signed || w.Finish.Sign != nil && data.unsigned == ""
	if w.record.Unsigned == "" {
		w.record.Unsigned = data.unsigned
	}
	w.record.Objects = append(w.record.Objects, state.ObjectEntry{
		Index: made.Index, Name: o.Dest, File: file, Location: o.DestDir, SHA256: hex.EncodeToString(sum[:]),
		Vermagic: strings.TrimSpace(info.Vermagic()), SrcVersion: info.SrcVersion(),
	})
	return nil
}

// verify holds the finished objects against the kernel: what it would not load
// becomes no result.
func (w *work) verify() error {
	if w.Job.Verify.Kernel == nil {
		return nil
	}
	reports := verify.Objects(w.files, w.Job.Verify)
	refused := verify.Refusal(reports)
	for _, r := range reports {
		for _, against := range r.Against {
			if !slices.Contains(w.record.Verified, against) {
				w.record.Verified = append(w.record.Verified, against)
			}
		}
		for _, p := range r.Problems {
			if !p.Refuse || w.Force {
				fmt.Fprintf(w.Err, "Warning: %s: %s\n", r.Name, p.Text)
			}
		}
	}
	if refused == nil || w.Force {
		return nil
	}
	return &Failure{Stage: Verify, Log: w.logPath(), Err: fmt.Errorf("kernel %s would not load what was built of %s: %w", w.Key.Kernel, w.Key.ID, refused)}
}

// write puts a file into the result being prepared, which the change syncs.
func (w *work) write(name string, content []byte) error {
	return os.WriteFile(filepath.Join(w.staged, name), content, 0o644)
}

func (w *work) writeRecord() error {
	r := &w.record
	r.Format, r.Module, r.Version, r.Kernel, r.Arch = state.RecordFormat, w.Key.Module, w.Key.Version, w.Key.Kernel, w.Key.Arch
	r.Origin, r.Tool = w.origin, w.Version
	r.Built, r.Seconds = w.begun.UTC().Truncate(time.Second), time.Since(w.begun).Round(time.Millisecond).Seconds()
	r.Depends = w.Conf.BuildDepends
	r.CPUSeconds, r.PeakBytes = w.used.CPU.Round(time.Millisecond).Seconds(), w.used.Peak
	return state.WriteRecord(w.staged, *r)
}
