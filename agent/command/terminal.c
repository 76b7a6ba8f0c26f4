// SPDX-License-Identifier: Apache-2.0
#include "agent/command/terminal.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <unistd.h>

int terminal_make_raw(struct terminal *t, struct error *err)
{
	struct termios raw;
	if (tcgetattr(STDIN_FILENO, &t->before) < 0)
		return error_set_errno(err, errno, "terminal");
	raw = t->before;
	cfmakeraw(&raw);
	if (tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) < 0)
		return error_set_errno(err, errno, "terminal");
	t->raw = true;
	return 0;
}

void terminal_restore(struct terminal *t)
{
	if (t->raw)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &t->before);
	t->raw = false;
}

void terminal_copy_size(int master)
{
	struct winsize size;
	if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) == 0)
		ioctl(master, TIOCSWINSZ, &size);
}
