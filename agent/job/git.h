// SPDX-License-Identifier: Apache-2.0
//
// Which version of the code a job runs: the properties azureml.git.* and mlflow.source.git.* of the
// repository that the source directory is in.
//
// git reads the repository's own configuration, and whoever wrote that is not trusted: nothing that
// it names is started (hooks, filters, file-system monitors, transports), nothing is fetched, and
// each call has a time limit. Without git, outside of a repository, or where git refuses one that
// belongs to somebody else (safe.directory), there are no properties; that is no failure.
#pragma once

#include "base/arena.h"
#include "base/json_decode.h"

struct json_pairs git_properties(struct arena *a, const char *folder);

// The address without what may be a credential: users and passwords (but for the user of ssh, which
// is none) and queries.
const char *git_strip_credentials(struct arena *a, const char *url);
