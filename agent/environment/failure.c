// SPDX-License-Identifier: Apache-2.0
#include "agent/environment/failure.h"

static const struct {
	const char *name;
	enum cause_class class;
	bool lasting;
} failures[ENVIRONMENT_FAILURES] = {
	[ENVIRONMENT_OK] = {"EnvironmentOk", CAUSE_USER, false},
	[ENVIRONMENT_UNSATISFIABLE] = {"EnvironmentUnsatisfiable", CAUSE_USER, true},
	[ENVIRONMENT_NOT_FOUND] = {"EnvironmentPackageNotFound", CAUSE_USER, true},
	[ENVIRONMENT_NETWORK] = {"EnvironmentNetwork", CAUSE_INFRASTRUCTURE, false},
	[ENVIRONMENT_INTEGRITY] = {"EnvironmentIntegrity", CAUSE_INFRASTRUCTURE, true},
	[ENVIRONMENT_NO_SPACE] = {"EnvironmentNoSpace", CAUSE_SYSTEM, false},
	[ENVIRONMENT_TERMS] = {"EnvironmentTermsOfService", CAUSE_USER, false},
	[ENVIRONMENT_BAD_SPEC] = {"EnvironmentBadSpec", CAUSE_USER, true},
	[ENVIRONMENT_AUTHENTICATION] = {"EnvironmentAuthentication", CAUSE_USER, false},
	[ENVIRONMENT_OUT_OF_MEMORY] = {"EnvironmentOutOfMemory", CAUSE_USER, false},
	[ENVIRONMENT_TIME_LIMIT] = {"EnvironmentTimeLimit", CAUSE_USER, false},
	[ENVIRONMENT_NO_TOOL] = {"EnvironmentNoTool", CAUSE_USER, true},
	[ENVIRONMENT_BUILD] = {"EnvironmentBuildFailed", CAUSE_USER, true},
	[ENVIRONMENT_LOCK_UNAVAILABLE] = {"EnvironmentLockUnavailable", CAUSE_USER, false},
	[ENVIRONMENT_VERIFICATION] = {"EnvironmentVerification", CAUSE_USER, false},
	[ENVIRONMENT_CANCELED] = {"EnvironmentCanceled", CAUSE_USER, false},
	[ENVIRONMENT_FAILED] = {"EnvironmentFailed", CAUSE_SYSTEM, false},
};

const char *environment_failure_name(enum environment_failure f)
{
	return failures[f].name;
}

enum cause_class environment_failure_class(enum environment_failure f)
{
	return failures[f].class;
}

bool environment_failure_is_lasting(enum environment_failure f)
{
	return failures[f].lasting;
}
