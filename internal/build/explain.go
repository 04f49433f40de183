// SPDX-License-Identifier: Apache-2.0

package build

import (
	"fmt"
	"strings"

	"dkms-go/internal/diagnose"
)

// explain ends the log of a failed build with what dkms itself knows of the
// failure, so that the log alone tells it, and hands the log on.
func (w *work) explain(f *Failure) {
	if w.log == nil {
		return
	}
	first, _, _ := strings.Cut(f.Err.Error(), "\n")
	fmt.Fprintf(w.log.File, "\n%s%s: %s\n", diagnose.FailedMark, f.Stage, diagnose.Printable(first))
	text, err := w.log.text()
	if err != nil {
		return
	}
	f.Text = text
	if w.Confine != nil && f.Replay != "" {
		f.Refused = refusals(text)
	}
}
