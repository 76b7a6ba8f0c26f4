// SPDX-License-Identifier: Apache-2.0
//
// The parts of runtime_spec_write().
#pragma once

#include "base/json_write.h"
#include "oci/runtime/spec.h"

// A process: the value of "process", and what `exec --process FILE` takes.
void spec_write_process(struct json_writer *w, const struct runtime_process *p);
// The value of "linux".
void spec_write_linux(struct json_writer *w, const struct runtime_spec *spec);
// The members "resources", "seccomp" of it, where they say something.
void spec_write_resources(struct json_writer *w, const struct runtime_resources *r);
void spec_write_seccomp(struct json_writer *w, const struct runtime_seccomp *s);

// Members that are left out where they say nothing: NULL, an empty list.
void spec_write_word(struct json_writer *w, const char *key, const char *word);
void spec_write_words(struct json_writer *w, const char *key, const struct json_strings *words);
void spec_write_pairs(struct json_writer *w, const char *key, const struct json_pairs *pairs);
void spec_write_id_maps(struct json_writer *w, const char *key, const struct runtime_id_maps *maps);
// 0 is left out, RUNTIME_UNLIMITED is -1.
void spec_write_limit(struct json_writer *w, const char *key, int64_t limit);
