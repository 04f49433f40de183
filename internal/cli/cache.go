// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"dkms-go/internal/action"
)

// CacheSchema names the form of `cache --json`.
const CacheSchema = "dkms-cache/1"

type cacheDocument struct {
	Schema    string     `json:"schema"`
	Directory string     `json:"directory"`
	Results   int        `json:"results"`
	Bytes     int64      `json:"bytes"`
	Bound     int64      `json:"bound"`
	Other     int64      `json:"other_bytes"`
	Oldest    *time.Time `json:"oldest,omitempty"`
	Newest    *time.Time `json:"newest,omitempty"`
}

type cleanDocument struct {
	Schema    string `json:"schema"`
	Directory string `json:"directory"`
	Removed   int64  `json:"removed_bytes"`
}

// cacheVerb shows or removes what is kept between builds.
func cacheVerb(_ context.Context, c *command) error {
	word := strings.Join(c.args.rest, " ")
	switch word {
	case "stats":
		st, err := c.engine.CacheStats()
		if err != nil {
			return err
		}
		return printStats(c, st)
	case "clean":
		removed, err := c.engine.CacheClean()
		if err != nil {
			return err
		}
		st, err := c.engine.CacheStats() // for the directory
		if err != nil {
			return err
		}
		if c.args.has("--json") {
			return c.printJSON(cleanDocument{CacheSchema, st.Dir, removed})
		}
		_, err = fmt.Fprintf(c.io.Out, "Removed %s from %s.\n", size(removed), st.Dir)
		return err
	}
	return usageError("cache takes stats or clean, not %q%s", word, didYouMean(word, []string{"stats", "clean"}))
}

func printStats(c *command, st action.CacheStats) error {
	if c.args.has("--json") {
		doc := cacheDocument{Schema: CacheSchema, Directory: st.Dir, Results: st.Entries, Bytes: st.Bytes, Bound: st.Bound, Other: st.Other}
		if st.Entries > 0 {
			oldest, newest := st.Oldest.UTC(), st.Newest.UTC()
			doc.Oldest, doc.Newest = &oldest, &newest
		}
		return c.printJSON(doc)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "directory: %s\nresults: %d, %s", st.Dir, st.Entries, size(st.Bytes))
	if st.Bound > 0 {
		fmt.Fprintf(&b, " of %s\n", size(st.Bound))
	} else {
		b.WriteString("; none are kept or used (result_cache=off)\n")
	}
	if st.Entries > 0 {
		fmt.Fprintf(&b, "last used: %s to %s\n", st.Oldest.Local().Format(time.DateTime), st.Newest.Local().Format(time.DateTime))
	}
	fmt.Fprintf(&b, "other: %s\n", size(st.Other))
	_, err := io.WriteString(c.io.Out, b.String())
	return err
}

// size shows a number of bytes to people.
func size(bytes int64) string {
	units := []string{"bytes", "KiB", "MiB", "GiB", "TiB"}
	n, unit := float64(bytes), 0
	for n >= 1024 && unit < len(units)-1 {
		n /= 1024
		unit++
	}
	if unit == 0 {
		return fmt.Sprintf("%d bytes", bytes)
	}
	return fmt.Sprintf("%.1f %s", n, units[unit])
}
