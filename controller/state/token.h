// SPDX-License-Identifier: Apache-2.0
//
// The text of a token: "stk_", a letter for its role, '_', 10 characters that name it, '_', 43 of
// secret, all of base 62.
#pragma once

#include "base/sha256.h"
#include "controller/state/identity.h"

// 256 bits of secret. Looks random, is not looked up.
void token_text_make(enum role role, char text[TOKEN_TEXT_SIZE]);
// false: it cannot be one. Fills the id.
bool token_text_parse(const char *text, char id[TOKEN_ID_SIZE]);
void token_text_hash(const char *text, char hex[SHA256_HEX_SIZE]);
