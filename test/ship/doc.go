// SPDX-License-Identifier: Apache-2.0

// Package ship tests the packages that `dkms mkdeb` and `dkms mkrpm` make, with the
// real apt, dpkg and rpm in throw-away roots, with this dkms and with the
// distribution's. Kbuild compiles the module once for each kernel, which is most of
// what the test costs; later versions are made of the same objects.
package ship
