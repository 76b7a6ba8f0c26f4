// SPDX-License-Identifier: Apache-2.0
#include "base/text.h"

#include <stdio.h>

int main(int argc, char **argv)
{
	if (argc == 2 && streq(argv[1], "--version")) {
		puts("stoker " STOKER_VERSION);
		return 0;
	}
	if (argc == 2 && streq(argv[1], "--help")) {
		puts("usage: stoker --version | --help");
		return 0;
	}
	fputs("stoker: unknown arguments; try 'stoker --help'\n", stderr);
	return 2;
}
