// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// maxText bounds the text files of a kernel that are read whole, in bytes. A
// configuration with every symbol there is has less than 1 MiB.
const maxText = 8 << 20

// Config is a kernel's configuration: the value of each symbol that is set,
// by its full name, as the file has it, with any quotes.
type Config map[string]string

// ReadConfig reads a .config or auto.conf (kernel source,
// Documentation/kbuild/kconfig.rst). The error wraps fs.ErrNotExist if there
// is no such file.
func ReadConfig(path string) (Config, error) {
	data, err := readText(path)
	if err != nil {
		return nil, fmt.Errorf("reading the kernel's configuration: %w", err)
	}
	return ParseConfig(data), nil
}

// ParseConfig takes the lines CONFIG_NAME=value of text and passes over all
// others. As in kconfig, the last line of a symbol counts.
func ParseConfig(text string) Config {
	c := make(Config, strings.Count(text, "\nCONFIG_")+1)
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), "=")
		if !ok || !isSymbol(name) {
			continue
		}
		c[name] = value
	}
	return c
}

func isSymbol(name string) bool {
	rest, ok := strings.CutPrefix(name, "CONFIG_")
	return ok && rest != "" && !strings.ContainsAny(rest, " \t#")
}

// Enabled reports whether a symbol, named with CONFIG_, is built in or a
// module.
func (c Config) Enabled(symbol string) bool {
	value := c[symbol]
	return value == "y" || value == "m"
}

// Text returns the value of a symbol without quotes, "" if it isn't set.
func (c Config) Text(symbol string) string { return strings.ReplaceAll(c[symbol], `"`, "") }

// SigHash returns the digest that objects are signed with; false says that
// the kernel doesn't know signatures.
func (c Config) SigHash() (string, bool) {
	const symbol = "CONFIG_MODULE_SIG_HASH"
	_, ok := c[symbol]
	return c.Text(symbol), ok
}

// readText reads a text file of bounded size.
func readText(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var text strings.Builder
	if info, err := f.Stat(); err == nil {
		text.Grow(int(min(info.Size(), maxText)))
	}
	if _, err := io.Copy(&text, io.LimitReader(f, maxText+1)); err != nil {
		return "", err
	}
	if text.Len() > maxText {
		return "", fmt.Errorf("%s has more than %d bytes", path, maxText)
	}
	return text.String(), nil
}
