// SPDX-License-Identifier: Apache-2.0

package ko

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Export is one symbol offered to modules.
type Export struct {
	CRC       uint32
	Symbol    string
	Module    string // "vmlinux" or the path of the object without .ko
	Type      string // EXPORT_SYMBOL, EXPORT_SYMBOL_GPL ...; "" in files of 3 columns
	Namespace string
}

// Bounds of a Module.symvers file: a kernel has some 30 thousand exports.
const (
	maxSymversLine  = 64 << 10
	maxSymversLines = 1 << 20
)

// ParseSymvers reads a Module.symvers file (Documentation/kbuild/modules.rst,
// "Symbols and Module.symvers"): tab separated columns CRC, symbol, module and,
// since 2.6.18, export type and, since 5.3, namespace, which kernels before
// 5.6 wrote in the third column. The first line for a symbol counts. Empty
// lines are skipped; any other line is an error that names it.
func ParseSymvers(r io.Reader) (map[string]Export, error) {
	out := map[string]Export{}
	scan := bufio.NewScanner(r)
	scan.Buffer(nil, maxSymversLine)
	for n := 1; scan.Scan(); n++ {
		if n > maxSymversLines {
			return nil, fmt.Errorf("reading Module.symvers: more than %d lines", maxSymversLines)
		}
		if scan.Text() == "" {
			continue
		}
		e, err := parseSymversLine(scan.Text())
		if err != nil {
			return nil, fmt.Errorf("reading Module.symvers: line %d: %w", n, err)
		}
		if _, ok := out[e.Symbol]; !ok {
			out[e.Symbol] = e
		}
	}
	if err := scan.Err(); err != nil {
		return nil, fmt.Errorf("reading Module.symvers: %w", err)
	}
	return out, nil
}

func parseSymversLine(line string) (Export, error) {
	col := strings.Split(line, "\t")
	if len(col) < 3 || len(col) > 5 || col[1] == "" {
		return Export{}, fmt.Errorf("%q has no 3 to 5 columns", line)
	}
	hex, ok := strings.CutPrefix(col[0], "0x")
	crc, err := strconv.ParseUint(hex, 16, 32)
	if !ok || err != nil {
		return Export{}, fmt.Errorf("%q is not a CRC", col[0])
	}
	e := Export{CRC: uint32(crc), Symbol: col[1], Module: col[2]}
	switch {
	case len(col) == 5 && strings.HasPrefix(col[4], "EXPORT_"):
		e.Namespace, e.Module, e.Type = col[2], col[3], col[4]
	case len(col) == 5:
		e.Type, e.Namespace = col[3], col[4]
	case len(col) == 4:
		e.Type = col[3]
	}
	return e, nil
}
