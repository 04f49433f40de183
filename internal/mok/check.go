// SPDX-License-Identifier: Apache-2.0

package mok

import (
	"context"
	"errors"
	"fmt"

	"dkms-go/internal/ko"
)

// ErrNone says that there is neither a key nor a certificate.
var ErrNone = errors.New("there is no signing key yet")

// Check returns the paths of the key and of its certificate, the former without a
// PIN, and fails if nothing can be signed with them. Nothing is made.
func Check(ctx context.Context, r Request) (key, cert string, err error) {
	key, cert = r.Names()
	shown, _ := splitPIN(key)
	if !onToken(key) && !exists(key) && !exists(cert) {
		return shown, cert, fmt.Errorf("%w: %s", ErrNone, shown)
	}
	if !onToken(key) {
		if err := r.complete(ctx, key, cert, func(string) {}); err != nil {
			return shown, cert, err
		}
	}
	_, err = r.signer(ctx, key, cert)
	if errors.Is(err, ko.ErrUnsupported) {
		return shown, cert, nil // sign-file may know it
	}
	return shown, cert, err
}
