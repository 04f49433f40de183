// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"dkms-go/internal/fleet"
)

// Report takes what a host says in the place of what it said before.
func (l *Ledger) Report(ctx context.Context, host int64, r fleet.Report) error {
	return l.change(ctx, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE host SET seen = ?, distribution = ? WHERE id = ?", time.Now().Unix(), r.Distribution, host)
		if err == nil {
			err = forget(ctx, tx, "?", host)
		}
		identities := map[[2]string]string{}
		for _, k := range r.Kernels {
			identities[[2]string{k.Release, k.Arch}] = k.Identity
			if err == nil {
				_, err = tx.ExecContext(ctx, "INSERT OR REPLACE INTO kernel VALUES (?, ?, ?, ?, ?, ?, ?)", host, k.Release, k.Arch, k.Identity, k.Running, k.NextBoot, k.Buildable)
			}
		}
		for _, m := range r.Modules {
			if err == nil {
				_, err = tx.ExecContext(ctx, "INSERT OR REPLACE INTO module VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
					host, m.Name, m.Version, m.Kernel, m.Arch, identities[[2]string{m.Kernel, m.Arch}], string(m.State), m.Origin, m.Reason, m.Key)
			}
		}
		return err
	})
}

// forget removes what a host has reported; which is the SQL of its ID.
func forget(ctx context.Context, tx *sql.Tx, which string, arg any) error {
	for _, table := range []string{"kernel", "module"} {
		if _, err := tx.ExecContext(ctx, "DELETE FROM "+table+" WHERE host = "+which, arg); err != nil {
			return err
		}
	}
	return nil
}

// Last returns what a host said last, with the names of Host, but its schema.
func (l *Ledger) Last(ctx context.Context, name string) (Host, fleet.Report, error) {
	var r fleet.Report
	h, err := scanHost(l.db.QueryRowContext(ctx, hostColumns+" WHERE name = ?", name))
	if err != nil {
		return h, r, err
	}
	r.Distribution, r.Time = h.Distribution, h.Seen
	kernels, err := l.db.QueryContext(ctx, "SELECT release, arch, identity, running, next_boot, buildable FROM kernel WHERE host = ? ORDER BY release, arch", h.ID)
	if err != nil {
		return h, r, err
	}
	defer kernels.Close()
	for kernels.Next() {
		var k fleet.Kernel
		if err := kernels.Scan(&k.Release, &k.Arch, &k.Identity, &k.Running, &k.NextBoot, &k.Buildable); err != nil {
			return h, r, err
		}
		r.Kernels = append(r.Kernels, k)
	}
	modules, err := l.db.QueryContext(ctx, "SELECT name, version, kernel, arch, state, origin, reason, key FROM module WHERE host = ? ORDER BY name, version, kernel, arch", h.ID)
	if err != nil {
		return h, r, errors.Join(err, kernels.Err())
	}
	defer modules.Close()
	for modules.Next() {
		var m fleet.Module
		if err := modules.Scan(&m.Name, &m.Version, &m.Kernel, &m.Arch, &m.State, &m.Origin, &m.Reason, &m.Key); err != nil {
			return h, r, err
		}
		r.Modules = append(r.Modules, m)
	}
	return h, r, errors.Join(kernels.Err(), modules.Err())
}

// Want is one module for one kernel build, as hosts report it.
type Want struct {
	Module, Version, Kernel, Arch, Identity, Key string
	// Hosts counts those that have it in a state.
	Hosts map[fleet.State]int
	// Reason is one host's for a state that isn't ready.
	Reason string
}

// Wants returns what the hosts have and lack, in order of modules, kernels and
// identities.
func (l *Ledger) Wants(ctx context.Context) ([]Want, error) {
	rows, err := l.db.QueryContext(ctx, `
		SELECT name, version, kernel, arch, identity, max(key), state, count(*), max(reason) FROM module
		GROUP BY name, version, kernel, arch, identity, state
		ORDER BY name, version, kernel, arch, identity, state`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []Want
	for rows.Next() {
		w := Want{Hosts: map[fleet.State]int{}}
		var state fleet.State
		var hosts int
		if err := rows.Scan(&w.Module, &w.Version, &w.Kernel, &w.Arch, &w.Identity, &w.Key, &state, &hosts, &w.Reason); err != nil {
			return nil, err
		}
		if n := len(all) - 1; n >= 0 && all[n].same(w) {
			w.Hosts = all[n].Hosts
			if all[n].Key == "" {
				all[n].Key = w.Key
			}
			if all[n].Reason == "" {
				all[n].Reason = w.Reason
			}
		} else {
			all = append(all, w)
		}
		w.Hosts[state] += hosts
	}
	return all, rows.Err()
}

func (w Want) same(o Want) bool {
	return w.Module == o.Module && w.Version == o.Version && w.Kernel == o.Kernel && w.Arch == o.Arch && w.Identity == o.Identity
}
