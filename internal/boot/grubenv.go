// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"fmt"
	"strings"
)

const (
	// envSize is the size of a grubenv file in bytes, and envHead its first
	// line (GRUB, include/grub/lib/envblk.h).
	envSize = 1024
	envHead = "# GRUB Environment Block\n"
)

// parseEnv reads GRUB's environment block: lines name=value, in which a
// backslash quotes the next character, filled up with "#".
func parseEnv(data []byte) (map[string]string, error) {
	text := string(data)
	if !strings.HasPrefix(text, envHead) {
		return nil, fmt.Errorf("no GRUB environment block: the first line isn't %q", strings.TrimSpace(envHead))
	}
	env := map[string]string{}
	text = text[len(envHead):]
	for text != "" {
		var line strings.Builder
		i := 0
		for ; i < len(text) && text[i] != '\n'; i++ {
			if text[i] == '\\' && i+1 < len(text) {
				i++
			}
			line.WriteByte(text[i])
		}
		text = text[min(i+1, len(text)):]
		name, value, ok := strings.Cut(line.String(), "=")
		if ok && name != "" && name[0] != '#' {
			env[name] = value
		}
	}
	return env, nil
}
