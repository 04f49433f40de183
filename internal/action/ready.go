// SPDX-License-Identifier: Apache-2.0

package action

import "context"

// gate is filled in with the boot loader.
func (e *Engine) gate(context.Context) error { return nil }
