// SPDX-License-Identifier: Apache-2.0

// Package gates holds the rules of this project as tests: which package may
// import which, where commands may be started, how long a function may be,
// and that the help, the manual and the completions say the same. It has no
// code besides its tests, and none of them starts a program.
//
// Where a rule has exceptions, they are listed beside the test. A list may
// only get shorter: an entry that is no longer needed fails the test too.
package gates
