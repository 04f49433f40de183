// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"sync"
	"time"

	"dkms-go/internal/ko"
	"dkms-go/internal/state"
)

// Product is what the commands of a build made, before it is signed and
// compressed: another key or another compression needs no other build.
type Product struct {
	// Record tells of the build. Of a Try it is not complete.
	Record state.Record
	// Objects are stripped where the conf asks for it.
	Objects []Object
	// Symvers is Module.symvers, nil if there was none.
	Symvers []byte
	// Log is make.log.
	Log []byte
	// Outside is a file that the build read although it belongs neither to the
	// module nor to the kernel or the compiler, "" if none is known.
	Outside string
}

// Object is one object of a product.
type Object struct {
	// Index is that of the conf's object, Path where the build made it, below
	// the build directory.
	Index int
	Path  string
	Data  []byte
}

// The bounds of what is taken from a build directory, in bytes: of all objects
// together, before they are stripped, and of Module.symvers.
const (
	maxProduct = 2 << 30
	maxSymvers = 64 << 20
)

// gather takes the product of the make command from the build directory.
func (w *work) gather(ctx context.Context) error {
	var err error
	w.product.Symvers, err = w.inside.Read("Module.symvers", maxSymvers)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("keeping Module.symvers: %w", err)
	}
	for i, o := range w.Conf.Objects {
		if !w.Conf.ObjectApplies(i, w.Facts).OK {
			continue
		}
		w.product.Objects = append(w.product.Objects, Object{Index: i, Path: o.BuiltDir + o.Built + ".ko"})
	}
	if w.Keep != nil {
		w.product.Outside = w.outside()
	}
	return w.readObjects(ctx)
}

// readObjects reads the objects of the product and strips those of which the
// conf wants it, as many at a time as there are processors. Files are read, and
// strip(1) is run, by this thread (run.Private).
func (w *work) readObjects(ctx context.Context) error {
	objects, left := w.product.Objects, int64(maxProduct)
	errs := make([]error, len(objects))
	var side sideBySide
	for i := range objects {
		made := &objects[i]
		var err error
		if made.Data, err = w.inside.Read(made.Path, left); err != nil {
			errs[i] = fmt.Errorf("reading an object: %w", err)
			break
		}
		left -= int64(len(made.Data))
		if errs[i] = whole(made.Data); errs[i] != nil {
			errs[i] = fmt.Errorf("the build made %s, but %w", made.Path, errs[i])
			break
		}
		if w.Conf.Objects[made.Index].Strip && !w.Finish.Clang {
			side.do(func() {
				var stripped []byte
				if stripped, errs[i] = ko.Strip(made.Data); errs[i] == nil {
					made.Data = stripped
				} else {
					errs[i] = fmt.Errorf("%s: %w", made.Path, errs[i])
				}
			})
		}
	}
	side.wait()
	for i, made := range objects {
		unsupported := errors.Is(errs[i], ko.ErrUnsupported)
		if errs[i] != nil && !unsupported {
			return errs[i]
		}
		if unsupported || w.Conf.Objects[made.Index].Strip && w.Finish.Clang {
			var err error
			if objects[i].Data, err = w.Finish.strip(ctx, w, made); err != nil {
				return err
			}
		}
	}
	return nil
}

// whole tells of what no compiler leaves: it was stopped while it wrote, or something
// has cut the object since.
func whole(object []byte) error {
	if len(object) == 0 {
		return errors.New("the object is empty")
	}
	if _, err := ko.ParseInfo(object); errors.Is(err, ko.ErrFormat) {
		return fmt.Errorf("the object is cut short or damaged: %w", err)
	}
	return nil
}

// sideBySide does things on other goroutines, as many at a time as there are
// processors. The zero value is ready.
type sideBySide struct {
	turns chan struct{}
	all   sync.WaitGroup
}

// do starts one thing as soon as there is a processor for it.
func (s *sideBySide) do(fn func()) {
	if s.turns == nil {
		s.turns = make(chan struct{}, runtime.GOMAXPROCS(0))
	}
	s.turns <- struct{}{}
	s.all.Go(func() {
		fn()
		<-s.turns
	})
}

func (s *sideBySide) wait() { s.all.Wait() }

// Restore puts the product of an earlier build with the same inputs into its
// place as Run does with what it builds: signed and compressed as Finish says,
// verified, in one change. No command of the module is run, and what a failed
// build left in the build directory goes. origin is where the product comes from
// and heading what is put before the log of the build that made it. After an error nothing has changed, and the room still
// counts on a build.
func (j Job) Restore(ctx context.Context, room *Room, p Product, origin, heading string) error {
	w := &work{Job: j, begun: time.Now(), record: j.Inputs, product: p, origin: origin}
	w.record.Make, w.record.Compiler = p.Record.Make, p.Record.Compiler
	w.product.Log = append([]byte(heading), p.Log...)
	var err error
	if w.dir, err = os.MkdirTemp(j.Paths.Temp, "dkms-"); err != nil {
		return fmt.Errorf("preparing the result: %w", err)
	}
	defer os.RemoveAll(w.dir)
	err = w.place(ctx)
	if w.change != nil {
		w.change.Abort()
	}
	if err != nil {
		return err
	}
	return room.Spare()
}

// Try builds and returns the product; the result in the tree stays as it is, and
// POST_BUILD, which may act on what is elsewhere, isn't run.
func (j Job) Try(ctx context.Context, room *Room) (Product, error) {
	w := &work{Job: j}
	err := w.within(ctx, room, append(w.making(), stage{Collect, w.gather}))
	return w.product, err
}
