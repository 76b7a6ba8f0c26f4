// SPDX-License-Identifier: Apache-2.0

// Package tools names what tests/integration/test_runtime_tools.py builds: the validation programs of
// the Open Container Initiative, in the version of go.mod, with the versions of their time of what they
// use (go.sum).
package tools

import (
	_ "github.com/opencontainers/runtime-tools/cmd/runtimetest"
	_ "github.com/opencontainers/runtime-tools/validation/create"
)
