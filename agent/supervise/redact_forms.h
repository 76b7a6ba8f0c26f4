// SPDX-License-Identifier: Apache-2.0
//
// The forms in which a secret may be printed: see redact.h.
#pragma once

#include <stddef.h>

typedef void redact_form_fn(void *data, const char *form, size_t size);

// Calls `fn` with each form, the secret itself first; forms may repeat. None is shorter than
// REDACT_SECRET_MIN if the secret is not.
void redact_forms(const char *secret, size_t size, redact_form_fn *fn, void *data);
