// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"context"
	"database/sql"
	"errors"
)

// maxBatch bounds how many changes reach the disk at once.
const maxBatch = 128

// job is one change that waits for its turn.
type job struct {
	ctx context.Context
	do  func(context.Context, *sql.Tx) error
	err error
	// done is closed when the change is on the disk, or was refused.
	done chan struct{}
}

// change makes a change whole or not at all, and returns when it is on the disk. Those
// that come while one is being written are then written together: a disk syncs some
// hundred times a second, and a fleet reports more often.
func (l *Ledger) change(ctx context.Context, do func(context.Context, *sql.Tx) error) error {
	j := &job{ctx: context.WithoutCancel(ctx), do: do, done: make(chan struct{})}
	select {
	case l.jobs <- j:
	case <-l.closing:
		return errors.New("the ledger is closed")
	case <-ctx.Done():
		return ctx.Err()
	}
	<-j.done
	return j.err
}

// write makes the changes, one batch after another, until the ledger closes.
func (l *Ledger) write() {
	defer close(l.closed)
	for {
		var batch []*job
		select {
		case j := <-l.jobs:
			batch = append(batch, j)
		case <-l.closing:
			return
		}
	more:
		for len(batch) < maxBatch {
			select {
			case j := <-l.jobs:
				batch = append(batch, j)
			default:
				break more
			}
		}
		err := l.commit(batch)
		for _, j := range batch {
			j.err = errors.Join(j.err, err)
			close(j.done)
		}
	}
}

// commit makes several changes in one transaction, each of which may fail for itself.
func (l *Ledger) commit(batch []*job) error {
	ctx := context.Background()
	tx, err := l.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	for _, j := range batch {
		if _, err = tx.ExecContext(ctx, "SAVEPOINT one"); err != nil {
			break
		}
		end := "RELEASE one"
		if j.err = j.do(j.ctx, tx); j.err != nil {
			end = "ROLLBACK TO one; RELEASE one"
		}
		if _, err = tx.ExecContext(ctx, end); err != nil {
			break
		}
	}
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}
