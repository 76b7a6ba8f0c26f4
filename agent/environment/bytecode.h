// SPDX-License-Identifier: Apache-2.0
//
// Compiled Python (PEP 3147) names the modification time of its source, unless it was compiled with
// hashes (PEP 552). In a layer all times are TREE_TAR_TIME: every import would then compile anew.
// So before a tree is sealed, files in __pycache__ that fit their source get the time that the
// source will have. What does not fit is left as it is, and is compiled at each import, as before.
#pragma once

// Returns how many files were changed. What cannot be read is left alone; sealing says why.
unsigned environment_bytecode_fit(int tree_fd);
