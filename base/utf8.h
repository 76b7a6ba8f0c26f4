// SPDX-License-Identifier: Apache-2.0
//
// UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF. yajl's own
// check lets all three pass, so documents and strings are checked here before yajl sees them.
#pragma once

#include <stddef.h>

// The offset of the first byte that is not UTF-8, or `size` if all of it is. NUL is a valid
// character.
size_t utf8_valid(const char *data, size_t size);
