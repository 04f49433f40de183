// SPDX-License-Identifier: Apache-2.0

// Package data is the data directory of a hub, and the hub that serves it.
//
//	store/           modules, their sources, kernels' headers (package store)
//	hub.db           hosts, their reports, the audit log (package ledger)
//	tls/             the hub's certificate authority (package pki)
//	operator.token   what lets its reader do everything
//	hub.key          signs what the hub vouches for; hub.key.pub is for hosts to trust
package data

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"dkms-go/internal/dsse"
	"dkms-go/internal/durable"
	"dkms-go/internal/hub/ledger"
	"dkms-go/internal/hub/pki"
	"dkms-go/internal/hub/store"
	"dkms-go/internal/hub/vouch"
	"dkms-go/internal/hub/web"
)

// The names in a data directory.
const (
	OperatorFile = "operator.token"
	storeDir     = "store"
	ledgerFile   = "hub.db"
	tlsDir       = "tls"
	keyFile      = "hub.key"
)

// Data is an open data directory. Several processes may have it open.
type Data struct {
	Store    *store.Store
	Ledger   *ledger.Ledger
	dir      string
	operator string
	pki      *pki.Authority
}

// Open opens a data directory, and makes what isn't there of it. Only its owner may
// read it.
func Open(ctx context.Context, dir string) (*Data, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the data directory: %w", err)
	}
	d := &Data{dir: dir}
	var err error
	if d.operator, err = operator(d.path(OperatorFile)); err != nil {
		return nil, err
	}
	if err := makeKey(d.path(keyFile)); err != nil {
		return nil, err
	}
	if d.pki, err = pki.Open(d.path(tlsDir)); err != nil {
		return nil, err
	}
	if d.Store, err = store.Open(d.path(storeDir), store.DefaultLimits()); err != nil {
		return nil, fmt.Errorf("opening the store: %w", err)
	}
	if d.Ledger, err = ledger.Open(ctx, d.path(ledgerFile)); err != nil {
		return nil, err
	}
	return d, nil
}

func (d *Data) path(name string) string { return filepath.Join(d.dir, name) }

// CertFile is the certificate that hosts pin.
func (d *Data) CertFile() string { return d.pki.CertFile() }

// makeKey makes the key that signs, if there is neither it nor its public part: hosts
// trust that.
func makeKey(file string) error {
	_, err := os.Lstat(file)
	_, err2 := os.Lstat(file + ".pub")
	if err == nil && err2 == nil {
		return nil
	}
	if err == nil { // a kill between both
		return dsse.Publish(file)
	}
	if err2 == nil {
		return fmt.Errorf("the hub's key is gone, and hosts trust it: restore %s", file)
	}
	_, err = dsse.Generate(file)
	return err
}

// PublicFile is the key that hosts trust.
func (d *Data) PublicFile() string { return d.path(keyFile) + ".pub" }

// Contributions returns what hosts have contributed, and the hub doesn't vouch for yet.
func (d *Data) Contributions(ctx context.Context) ([]vouch.Contribution, error) {
	list, err := vouch.List(ctx, d.Store, web.Contributed)
	return slices.DeleteFunc(list, func(c vouch.Contribution) bool {
		have, err := d.Store.ResolveTag(ctx, web.Modules, c.Key)
		return err == nil && have.Digest == c.Digest
	}), err
}

// Promote has the hub vouch for a contribution, named by its digest, key or tag.
func (d *Data) Promote(ctx context.Context, who, reference string) (vouch.Contribution, error) {
	key, err := dsse.LoadPrivate(d.path(keyFile))
	if err != nil {
		return vouch.Contribution{}, err
	}
	c, err := vouch.Read(ctx, d.Store, web.Contributed, reference)
	if err == nil {
		err = vouch.Promote(ctx, d.Store, c, vouch.Way{From: web.Contributed, To: web.Modules}, key)
	}
	if err == nil {
		err = d.Ledger.Audit(ctx, who, "promote", fmt.Sprintf("%s %s", c.Manifest.StateKey(), c.Digest))
	}
	return c, err
}

// Import puts all bundles *.tar.gz below a directory among what the hub vouches for, and
// tells of each. One that can't be taken doesn't keep the others out; the error then is
// how many there were.
func (d *Data) Import(ctx context.Context, dir string, trusted []dsse.Key, tell func(file string, c vouch.Contribution, err error)) error {
	key, err := dsse.LoadPrivate(d.path(keyFile))
	if err != nil {
		return err
	}
	bad, all := 0, 0
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || !strings.HasSuffix(path, ".tar.gz") {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		c, err := vouch.Import(ctx, d.Store, path, web.Modules, vouch.Keys{Trusted: trusted, Own: key})
		if err == nil {
			err = d.Ledger.Audit(ctx, "operator", "import", fmt.Sprintf("%s %s", c.Manifest.StateKey(), c.Digest))
		}
		all++
		if err != nil {
			bad++
		}
		tell(path, c, err)
		return nil
	})
	switch {
	case err != nil:
		return err
	case bad > 0:
		return fmt.Errorf("%d of %d bundles were not taken", bad, all)
	case all == 0:
		return fmt.Errorf("there is no bundle, a file *.tar.gz, below %s", dir)
	}
	return nil
}

// Close closes the ledger.
func (d *Data) Close() error { return d.Ledger.Close() }

// operator returns the token in a file, which is made if it isn't there.
func operator(file string) (string, error) {
	text, err := os.ReadFile(file)
	token := strings.TrimSpace(string(text))
	if err == nil && len(token) < 16 {
		return "", fmt.Errorf("%s has no token of 16 characters or more", file)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return token, err
	}
	token = ledger.Secret()
	return token, durable.Replace(file, []byte(token+"\n"), 0o600)
}

// Backup copies the directory to one that isn't there. What the hub takes in meanwhile
// is in the copy or isn't; all that the copy has is whole.
func (d *Data) Backup(ctx context.Context, to string) error {
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is there already", to)
	}
	aside := to + ".new"
	if err := os.Mkdir(aside, 0o700); err != nil {
		return err
	}
	err := d.Ledger.Backup(ctx, filepath.Join(aside, ledgerFile))
	// What names a content is copied before the content is: then that is there.
	for _, name := range []string{OperatorFile, keyFile, keyFile + ".pub", tlsDir, filepath.Join(storeDir, "repos"), filepath.Join(storeDir, "blobs")} {
		if err == nil {
			err = duplicate(d.path(name), filepath.Join(aside, name))
		}
	}
	if err == nil {
		err = os.Rename(aside, to)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(aside))
	}
	return durable.Sync(filepath.Dir(to))
}

// duplicate copies a file, or all files below a directory, that are not hidden, and
// syncs them.
func duplicate(from, to string) error {
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path != from {
			return nil // deleted just now
		}
		if err != nil || strings.HasPrefix(e.Name(), ".") {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		at := filepath.Join(to, rel)
		if e.IsDir() {
			return os.MkdirAll(at, 0o700)
		}
		if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
			return err
		}
		if err := durable.Copy(path, at); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil // deleted just now
	})
}

// Service is how a hub serves.
type Service struct {
	// Listen is a TCP address, Names are those of the hub.
	Listen string
	Names  []string
	// Cert and Key are files, "" for a certificate by the hub's own authority.
	Cert, Key string
	Log       io.Writer
	// Ready is called with the address once requests are answered.
	Ready func(address string)
}

// Serve answers requests until the context ends; those under way are given ten seconds
// to end.
func (d *Data) Serve(ctx context.Context, v Service) error {
	certificate, err := d.certificate(v)
	if err != nil {
		return err
	}
	authority, err := os.ReadFile(d.CertFile())
	if err != nil {
		return err
	}
	public, err := os.ReadFile(d.PublicFile())
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(v.Log, nil))
	hub := &web.Server{Store: d.Store, Ledger: d.Ledger, Authority: authority, Public: public, Operator: d.operator, Log: log}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", v.Listen)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           hub.Handler(),
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	server.RegisterOnShutdown(hub.Close)
	v.Ready(listener.Addr().String())
	ended := make(chan error, 1)
	go func() { ended <- server.ServeTLS(listener, "", "") }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return server.Shutdown(last)
}

func (d *Data) certificate(v Service) (tls.Certificate, error) {
	if v.Cert != "" {
		return tls.LoadX509KeyPair(v.Cert, v.Key)
	}
	return d.pki.Server(v.Names)
}
