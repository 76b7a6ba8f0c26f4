// SPDX-License-Identifier: Apache-2.0
//
// A job's secrets as files, in memory only: a tmpfs at <run>/runs/<run id>/secrets, where others
// cannot reach, which the sandbox binds into the container. run_folder_remove() takes it away.
#pragma once

#include "agent/job/spec.h"
#include "oci/store/store.h"

int job_secrets_mount(
	struct store *s, const char *run_id, const struct job_spec *spec, struct error *err);
