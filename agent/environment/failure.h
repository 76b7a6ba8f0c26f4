// SPDX-License-Identifier: Apache-2.0
//
// Why an environment could not be had: what a program needs to know. People read the error's line
// and, beside it, the evidence (the solver's or the compiler's own last lines).
#pragma once

#include "agent/job/cause.h"

#include <stdbool.h>

enum environment_failure {
	ENVIRONMENT_OK,
	ENVIRONMENT_UNSATISFIABLE, // no set of packages fits
	ENVIRONMENT_NOT_FOUND,	   // a package (or version) that no channel or index has
	ENVIRONMENT_NETWORK,	   // servers that hang, break off or answer 5xx
	ENVIRONMENT_INTEGRITY,	   // a wrong hash, a damaged archive
	ENVIRONMENT_NO_SPACE,
	ENVIRONMENT_TERMS, // the channel's terms of service were not accepted
	ENVIRONMENT_BAD_SPEC,
	ENVIRONMENT_AUTHENTICATION,
	ENVIRONMENT_OUT_OF_MEMORY,
	ENVIRONMENT_TIME_LIMIT,
	ENVIRONMENT_NO_TOOL,	      // the image has neither conda nor Python
	ENVIRONMENT_BUILD,	      // a package's own build or script failed
	ENVIRONMENT_LOCK_UNAVAILABLE, // a locked address is gone
	ENVIRONMENT_VERIFICATION,     // it was built, and is not what it should be
	ENVIRONMENT_CANCELED,
	ENVIRONMENT_FAILED, // anything else
	ENVIRONMENT_FAILURES,
};

const char *environment_failure_name(enum environment_failure f); // "EnvironmentUnsatisfiable"
enum cause_class environment_failure_class(enum environment_failure f);
// Would the same request fail the same way again? Such a failure is remembered for minutes.
bool environment_failure_is_lasting(enum environment_failure f);
