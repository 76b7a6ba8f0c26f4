// SPDX-License-Identifier: Apache-2.0
//
// uv's command lines and variables, and its lock (PEP 751), as data.
#pragma once

#include "agent/environment/pip.h"

#define UV_LOCK "pylock.toml"

struct uv_options {
	const char *path;   // of uv
	const char *python; // the image's
	bool inherit_image_packages;
	struct pip_options pip; // indexes and what else is pip's
};

struct json_pairs uv_environment(struct arena *a, const struct json_pairs *base);
struct json_strings uv_venv_command(struct arena *a, const struct uv_options *o);
// Resolve PIP_REQUIREMENTS into UV_LOCK.
struct json_strings uv_compile_command(struct arena *a, const struct uv_options *o);
// Install what UV_LOCK lists; or, from a lock of ours, what PIP_REQUIREMENTS lists.
struct json_strings uv_install_command(struct arena *a, const struct uv_options *o, bool locked);
// Lines with addresses and hashes, for uv_install_command(…, true).
void uv_locked_write(struct arena *a, const struct environment_lock *lock, struct buffer *out);

// A package of UV_LOCK. It lists the files of all platforms; which of them was installed is known
// by the tags of what is there.
struct uv_file {
	const char *url, *sha256;
};
struct uv_package {
	const char *name, *version;
	struct uv_file sdist, *wheels;
	size_t wheel_count;
};
// Only the parts of TOML that uv writes there: tables of packages, strings and inline tables on one
// line. ERROR_INVALID, ERROR_LIMIT.
int uv_lock_parse(struct arena *a, const char *text, size_t size, struct uv_package **packages,
	size_t *count, struct error *err);
// The wheel with a tag ("cp311-cp311-manylinux_2_17_x86_64"); NULL: none has it.
const struct uv_file *uv_wheel_with_tag(const struct uv_package *p, const char *tag);
