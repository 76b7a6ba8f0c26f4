// SPDX-License-Identifier: Apache-2.0
//
// Which tools an image offers. Found by looking at its files (PATH, /opt/conda/bin) and by asking
// their versions once per image; remembered by the digest of its manifest (records.h).
#pragma once

#include "agent/environment/request.h"
#include "agent/environment/step.h"

// Choose the tool for a request: the job's, else the first of micromamba, mamba, conda that the
// image has or the node lends, if there are conda packages; else venv (or uv where chosen) with the
// image's Python. ERROR_NOT_FOUND (ENVIRONMENT_NO_TOOL) says what was looked for and what can be
// done.
int environment_tool_choose(const struct environment_options *o, struct arena *a,
	struct environment_tool *tool, struct error *err);
