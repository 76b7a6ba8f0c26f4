// SPDX-License-Identifier: Apache-2.0
//
// Looking at the Python packages of a built tree.
#pragma once

#include "agent/environment/build.h"

// The folder of the prefix's packages, or -1 with ERROR_NOT_FOUND: it has no Python.
int verify_open_packages(struct build *b, struct error *err);
// "scikit_learn-1.5.0.dist-info" is of scikit-learn; NULL: it is of no package.
const char *verify_distribution(struct arena *a, const char *folder);
