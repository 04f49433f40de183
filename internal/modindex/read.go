// SPDX-License-Identifier: Apache-2.0

package modindex

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"dkms-go/internal/ko"
)

const (
	// racy is how long before it is read a file must have been left alone for
	// its times to tell a later change: the kernel's clock for them has ticks
	// of up to 10 ms.
	racy = 50 * time.Millisecond
)

// found is what one object says: for each fact its kind plus one, its text, and a
// zero.
type found struct {
	record int
	id     identity
	text   []byte
	err    error
}

// readMissing reads the objects of which nothing is known, and returns how
// many.
func (f *facts) readMissing(ctx context.Context, t tool) (int, error) {
	var missing []int
	for i := range f.records {
		if !f.records[i].known {
			missing = append(missing, i)
		}
	}
	if len(missing) == 0 {
		return 0, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	todo := newQueue(missing, f.records)
	done := make(chan found, 64)
	var workers sync.WaitGroup
	for n := range min(runtime.GOMAXPROCS(0), len(missing)) {
		workers.Go(func() {
			r := reader{tool: t}
			defer r.unpack.Close()
			for ctx.Err() == nil {
				i, ok := todo.next(n == 0)
				if !ok {
					return
				}
				done <- r.read(i, f.records[i].object)
			}
		})
	}
	go func() {
		workers.Wait()
		close(done)
	}()
	var err error
	for d := range done {
		if err == nil {
			err = d.err
		}
		if err != nil {
			cancel()
			continue
		}
		f.add(d)
	}
	if err == nil {
		err = context.Cause(ctx)
	}
	return len(missing), err
}

// add takes the facts of one object in.
func (f *facts) add(d found) {
	r := &f.records[d.record]
	r.object.id, r.known = d.id, true
	for text := d.text; len(text) > 0; {
		end := bytes.IndexByte(text, 0)
		kind, value := ko.Fact(text[0]-1), text[1:end]
		text = text[end+1:]
		switch kind {
		case ko.Exported:
			r.exports = append(r.exports, f.symbols.number(value))
		case ko.Needed:
			r.needs = append(r.needs, f.symbols.number(value))
		case ko.Alias:
			r.aliases = append(r.aliases, f.aliases.number(value))
		case ko.SoftDep:
			r.soft = append(r.soft, string(value))
		case ko.WeakDep:
			r.weak = append(r.weak, string(value))
		}
	}
}

// queue hands out objects, the largest or the smallest of those that are left.
// As only one reader takes large ones, no two of the largest are in memory at
// a time; and what is left for last is of middling size, so that all readers
// end together.
type queue struct {
	sync.Mutex
	bySize []int // records, the smallest first
}

func newQueue(missing []int, records []record) *queue {
	slices.SortStableFunc(missing, func(a, b int) int {
		return cmp.Compare(records[a].id.size, records[b].id.size)
	})
	return &queue{bySize: missing}
}

func (q *queue) next(largest bool) (record int, ok bool) {
	q.Lock()
	defer q.Unlock()
	last := len(q.bySize) - 1
	switch {
	case last < 0:
		return 0, false
	case largest:
		record, q.bySize = q.bySize[last], q.bySize[:last]
	default:
		record, q.bySize = q.bySize[0], q.bySize[1:]
	}
	return record, true
}

// reader reads objects, one after another.
type reader struct {
	tool   tool
	packed []byte
	unpack ko.Unpacker
}

func (r *reader) read(i int, o *object) found {
	text, id, err := r.facts(o)
	return found{record: i, id: id, text: text, err: err}
}

func (r *reader) facts(o *object) ([]byte, identity, error) {
	start := time.Now()
	id, err := r.load(o)
	if err != nil {
		return nil, id, unsure("%s: %v", o.path(), err)
	}
	if id.ctime > start.Add(-racy).UnixNano() {
		id.ctime = 0 // read it again next time
	}
	if !r.tool.reads(ko.Detect(r.packed)) {
		return nil, id, unsure("%s has a compression that depmod doesn't read", o.path())
	}
	data, err := r.unpack.Unpack(r.packed)
	if err != nil {
		return nil, id, unsure("%s: %v", o.path(), err)
	}
	clean := true
	text := make([]byte, 0, 2<<10)
	err = ko.Facts(data, func(kind ko.Fact, value []byte) {
		clean = clean && ascii(value) && len(value) < maxPath
		text = append(append(append(text, byte(kind+1)), value...), 0)
	})
	if err != nil || !clean {
		return nil, id, unsure("%s has something in it that isn't understood: %v", o.path(), err)
	}
	return text, id, nil
}

// load reads a file as it is.
func (r *reader) load(o *object) (identity, error) {
	f, err := os.OpenFile(o.path(), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return identity{}, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return identity{}, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > ko.MaxSize {
		return identity{}, unix.EFBIG
	}
	if int64(cap(r.packed)) < st.Size {
		r.packed = make([]byte, st.Size, st.Size+st.Size/2)
	}
	r.packed = r.packed[:st.Size]
	_, err = io.ReadFull(f, r.packed)
	return identify(&st), err
}
