// SPDX-License-Identifier: Apache-2.0

// Package ledger is what a hub knows of its hosts, in an SQLite database: who may
// speak to it, what each said last, and who did what. Modules are in the store.
package ledger

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base32"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"dkms-go/internal/fleet"
)

// version of the tables, in SQLite's user_version.
const version = 1

const tables = `
CREATE TABLE code (
	hash BLOB PRIMARY KEY, -- SHA-256 of the code
	host TEXT NOT NULL,    -- the name of the host that it is for, '' for any
	expires INTEGER NOT NULL,
	used INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE host (
	id INTEGER PRIMARY KEY,
	name TEXT NOT NULL UNIQUE,
	token BLOB NOT NULL UNIQUE, -- SHA-256 of the token
	enrolled INTEGER NOT NULL,
	seen INTEGER NOT NULL DEFAULT 0,
	revoked INTEGER NOT NULL DEFAULT 0,
	distribution TEXT NOT NULL DEFAULT ''
);
CREATE TABLE kernel (
	host INTEGER NOT NULL REFERENCES host(id),
	release TEXT NOT NULL, arch TEXT NOT NULL, identity TEXT NOT NULL,
	running INTEGER NOT NULL, next_boot INTEGER NOT NULL, buildable INTEGER NOT NULL,
	PRIMARY KEY (host, release, arch)
) WITHOUT ROWID;
CREATE TABLE module (
	host INTEGER NOT NULL REFERENCES host(id),
	name TEXT NOT NULL, version TEXT NOT NULL, kernel TEXT NOT NULL, arch TEXT NOT NULL,
	identity TEXT NOT NULL, -- of the kernel
	state TEXT NOT NULL, origin TEXT NOT NULL, reason TEXT NOT NULL, key TEXT NOT NULL,
	PRIMARY KEY (host, name, version, kernel, arch)
) WITHOUT ROWID;
-- All that the page of modules and kernels is made of, in its order.
CREATE INDEX module_of ON module (name, version, kernel, arch, identity, state, key, reason);
CREATE TABLE audit (
	id INTEGER PRIMARY KEY AUTOINCREMENT,
	time INTEGER NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL, detail TEXT NOT NULL
);
PRAGMA user_version = 1;
`

// Ledger is an open database. Its methods may be called concurrently; what one has
// returned from is on the disk.
type Ledger struct {
	db      *sql.DB
	jobs    chan *job
	end     sync.Once
	closing chan struct{} // closed by Close
	closed  chan struct{} // closed once nothing is written any more
}

// Open opens the database in a file, and makes it if it isn't there.
func Open(ctx context.Context, file string) (*Ledger, error) {
	query := url.Values{"_pragma": {"journal_mode(WAL)", "synchronous(FULL)", "busy_timeout(10000)", "foreign_keys(ON)"}, "_txlock": {"immediate"}}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: url.PathEscape(file), RawQuery: query.Encode()}).String())
	if err != nil {
		return nil, err
	}
	l := &Ledger{db: db, jobs: make(chan *job), closing: make(chan struct{}), closed: make(chan struct{})}
	go l.write()
	if err := l.prepare(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the ledger %s: %w", file, err), l.Close())
	}
	return l, nil
}

func (l *Ledger) prepare(ctx context.Context) error {
	return l.change(ctx, func(ctx context.Context, tx *sql.Tx) error {
		var have int
		if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&have); err != nil {
			return err
		}
		switch have {
		case 0:
			_, err := tx.ExecContext(ctx, tables)
			return err
		case version:
			return nil
		}
		return fmt.Errorf("it has version %d, and this program knows %d: use the program that wrote it", have, version)
	})
}

// Close closes the database, once what is being written is.
func (l *Ledger) Close() error {
	l.end.Do(func() { close(l.closing) })
	<-l.closed
	return l.db.Close()
}

// Backup writes a copy of the database, as of now, to a file that isn't there.
func (l *Ledger) Backup(ctx context.Context, file string) error {
	_, err := l.db.ExecContext(ctx, "VACUUM INTO ?", file)
	return err
}

// Host is one that was enrolled.
type Host struct {
	ID             int64
	Name           string
	Distribution   string
	Enrolled, Seen time.Time
	Revoked        bool
}

// What is wrong with a code, a token, a name.
var (
	ErrCode  = errors.New("this enrolment code is unknown, was used, or has expired")
	ErrToken = errors.New("this token is unknown or was revoked")
	ErrTaken = errors.New("another host has this name; ask for a code that is for it")
)

// Secret returns a random text of 160 bits.
func Secret() string {
	raw := make([]byte, 20)
	_, _ = rand.Read(raw) // never fails (crypto/rand)
	return strings.ToLower(base32.StdEncoding.EncodeToString(raw))
}

func hash(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}

// NewCode returns a code by which one host may enrol until it expires: the one named,
// which may be enrolled already, or any new one if host is "".
func (l *Ledger) NewCode(ctx context.Context, host string, valid time.Duration) (string, error) {
	if host != "" {
		if err := fleet.CheckName(host); err != nil {
			return "", fmt.Errorf("the name %.80q %w", host, err)
		}
	}
	code := Secret()
	return code, l.change(ctx, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO code (hash, host, expires) VALUES (?, ?, ?)", hash(code), host, time.Now().Add(valid).Unix())
		return err
	})
}

// Enrol uses a code up and returns the token by which the host speaks from then on.
func (l *Ledger) Enrol(ctx context.Context, code, name string) (token string, err error) {
	if err := fleet.CheckName(name); err != nil {
		return "", fmt.Errorf("the name %.80q %w", name, err)
	}
	token = Secret()
	now := time.Now().Unix()
	return token, l.change(ctx, func(ctx context.Context, tx *sql.Tx) error {
		var owner string
		err := tx.QueryRowContext(ctx, "UPDATE code SET used = ? WHERE hash = ? AND used = 0 AND expires > ? AND host IN ('', ?) RETURNING host",
			now, hash(code), now, name).Scan(&owner)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrCode
		}
		if err != nil {
			return err
		}
		on := "DO NOTHING"
		if owner != "" {
			on = "(name) DO UPDATE SET token = excluded.token, enrolled = excluded.enrolled, revoked = 0"
		}
		done, err := tx.ExecContext(ctx, "INSERT INTO host (name, token, enrolled) VALUES (?, ?, ?) ON CONFLICT "+on, name, hash(token), now)
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, ErrTaken)
		}
		return audit(ctx, tx, name, "enrol", "")
	})
}

// Authenticate returns the host that a token is of.
func (l *Ledger) Authenticate(ctx context.Context, token string) (Host, error) {
	h, err := scanHost(l.db.QueryRowContext(ctx, hostColumns+" WHERE token = ? AND revoked = 0", hash(token)))
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrToken
	}
	return h, err
}

// Revoke ends what a host may do, and forgets what it has reported, until it enrols again by a code that is for it.
func (l *Ledger) Revoke(ctx context.Context, who, name string) error {
	return l.change(ctx, func(ctx context.Context, tx *sql.Tx) error {
		done, err := tx.ExecContext(ctx, "UPDATE host SET revoked = 1 WHERE name = ?", name)
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, fmt.Errorf("no host %.80q is enrolled", name))
		}
		if err := forget(ctx, tx, "(SELECT id FROM host WHERE name = ?)", name); err != nil {
			return err
		}
		return audit(ctx, tx, who, "revoke", name)
	})
}

const hostColumns = "SELECT id, name, distribution, enrolled, seen, revoked FROM host"

func scanHost(row interface{ Scan(...any) error }) (Host, error) {
	var h Host
	var enrolled, seen int64
	err := row.Scan(&h.ID, &h.Name, &h.Distribution, &enrolled, &seen, &h.Revoked)
	h.Enrolled, h.Seen = stamp(enrolled), stamp(seen)
	return h, err
}

// stamp returns a time of the database, the zero time for 0.
func stamp(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0)
}

// Hosts returns all hosts, in order of their names.
func (l *Ledger) Hosts(ctx context.Context) ([]Host, error) {
	rows, err := l.db.QueryContext(ctx, hostColumns+" ORDER BY name")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []Host
	for rows.Next() {
		h, err := scanHost(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, h)
	}
	return all, rows.Err()
}

// Entry is one of the audit log.
type Entry struct {
	ID                int64
	Time              time.Time
	Who, What, Detail string
}

// Audit notes that somebody did something.
func (l *Ledger) Audit(ctx context.Context, who, what, detail string) error {
	return l.change(ctx, func(ctx context.Context, tx *sql.Tx) error { return audit(ctx, tx, who, what, detail) })
}

func audit(ctx context.Context, tx *sql.Tx, who, what, detail string) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO audit (time, who, what, detail) VALUES (?, ?, ?, ?)", time.Now().Unix(), who, what, detail)
	return err
}

// AuditLog returns at most n entries before an ID, the newest first; 0 stands for the end.
func (l *Ledger) AuditLog(ctx context.Context, before int64, n int) ([]Entry, error) {
	rows, err := l.db.QueryContext(ctx, "SELECT id, time, who, what, detail FROM audit WHERE ?1 = 0 OR id < ?1 ORDER BY id DESC LIMIT ?2", before, n)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []Entry
	for rows.Next() {
		var e Entry
		var at int64
		if err := rows.Scan(&e.ID, &at, &e.Who, &e.What, &e.Detail); err != nil {
			return nil, err
		}
		e.Time = stamp(at)
		all = append(all, e)
	}
	return all, rows.Err()
}
