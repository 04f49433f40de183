// SPDX-License-Identifier: Apache-2.0

package action

import (
	"fmt"
	"strconv"

	"dkms-go/internal/journald"
	"dkms-go/internal/plan"
	"dkms-go/internal/report"
)

// JournalKind is one kind of entry that dkms sends to the systemd journal.
type JournalKind struct {
	// ID is its MESSAGE_ID, which never changes.
	ID string
	// Action and Ending are those of the Result; no action stands for any.
	Action   string
	Ending   Ending
	Priority journald.Priority
	// What completes the message behind the module.
	What string
}

// JournalKinds lists the kinds; the first that fits a result is the one of its entry.
func JournalKinds() []JournalKind {
	return []JournalKind{
		{"51dbf29060be4e7c8293a539fef54b72", "build", Done, journald.Info, "built"},
		{"79a75a4a66a0493dbb208ea6e621f71b", "build", Failed, journald.Error, "not built"},
		{"216bff47f4e544bfbb7a643d5ee5f86a", "install", Done, journald.Info, "installed"},
		{"37854230b6cf44baa3b448ae14ac2db0", "install", Failed, journald.Error, "not installed"},
		{"056b1b026d2a4c18988a0d21005f2e5d", "uninstall", Done, journald.Info, "taken out"},
		{"104df51a87e7433d9af874a287177311", "uninstall", Failed, journald.Error, "not taken out"},
		{"efb991281d524420a5564b93fa3a15ba", "", ExcludedHere, journald.Info, "not meant for it"},
		{"c7d9275a37194f96b19d00dd3373ca98", "", Waits, journald.Warning, "not built yet"},
	}
}

// tellJournal sends a result to the systemd journal, if this is the work of a unit or
// of a hook and nobody looks on. What is only tried is not told. Where there is no
// journal nothing happens.
func (e *Engine) tellJournal(r Result) {
	if e.DryRun || e.trial != nil || e.Paths.JournalSocket == "" || !e.unattended() || r.Key.Module == "" || r.Key.Kernel == "" {
		return
	}
	for _, kind := range JournalKinds() {
		if kind.Ending == r.Ending && (kind.Action == "" || kind.Action == r.Action) {
			_ = journald.Send(e.Paths.JournalSocket, journalEntry(kind, r)) // only told
			return
		}
	}
}

// unattended reports whether a systemd unit (systemd.exec(5), JOURNAL_STREAM) or a
// hook runs this, and no terminal shows it.
func (e *Engine) unattended() bool {
	stream, unit := e.environment("JOURNAL_STREAM")
	return (unit && stream != "" || e.hooked || e.kernelHook) && report.TerminalSize(e.Err) == nil && report.TerminalSize(e.Out) == nil
}

// journalEntry is the entry of a result; docs/journal.md describes its fields.
func journalEntry(kind JournalKind, r Result) []journald.Field {
	t := plan.Target{Kernel: r.Key.Kernel, Arch: r.Key.Arch}
	message, reason, class := fmt.Sprintf("%s: %s for %s", r.Key.ID, kind.What, t), "", ""
	if f := r.Failure; f != nil {
		message, reason, class = message+": "+f.headline(), f.Reason.String(), string(f.class())
	} else if r.Why != "" {
		message += ": " + r.Why
	}
	seconds := ""
	if r.Took > 0 {
		seconds = strconv.FormatFloat(r.Took.Seconds(), 'f', 1, 64)
	}
	return []journald.Field{
		{Name: "MESSAGE", Value: message},
		{Name: "MESSAGE_ID", Value: kind.ID},
		{Name: "PRIORITY", Value: strconv.Itoa(int(kind.Priority))},
		{Name: "SYSLOG_IDENTIFIER", Value: "dkms"},
		{Name: "DKMS_MODULE", Value: r.Key.Module},
		{Name: "DKMS_VERSION", Value: r.Key.Version},
		{Name: "DKMS_KERNEL", Value: r.Key.Kernel},
		{Name: "DKMS_ARCH", Value: r.Key.Arch},
		{Name: "DKMS_ACTION", Value: r.Action},
		{Name: "DKMS_OUTCOME", Value: string(r.Ending)},
		{Name: "DKMS_REASON", Value: reason},
		{Name: "DKMS_CLASS", Value: class},
		{Name: "DKMS_SECONDS", Value: seconds},
		{Name: "DKMS_LOG", Value: r.Log},
	}
}
