// SPDX-License-Identifier: Apache-2.0
//
// Our own terminal, while another one is shown in it.
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <termios.h>

struct terminal {
	bool raw;
	struct termios before;
};

// Bytes come and go as they are, keys such as Ctrl-C too.
int terminal_make_raw(struct terminal *t, struct error *err);
void terminal_restore(struct terminal *t); // fine on a zeroed one, and twice
// The size of ours becomes that of the terminal behind `master`.
void terminal_copy_size(int master);
