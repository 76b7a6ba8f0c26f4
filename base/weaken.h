// SPDX-License-Identifier: Apache-2.0
//
// Tests of a defence must fail when it is taken out. A build with STOKER_WEAKEN (the preset "weak";
// never installed) leaves out the defences that the environment variable STOKER_WEAKEN names,
// separated by commas; in every other build weakened() is false and the compiler drops what it
// guards. Each defence that has such a test is named once, at the place where it stands.
#pragma once

#ifdef STOKER_WEAKEN
#include <stdbool.h>
bool weakened(const char *defence);
#else
#define weakened(defence) 0
#endif
