// SPDX-License-Identifier: Apache-2.0
//
// SHA-256 (FIPS 180-4), by OpenSSL's libcrypto where it is worth loading.
#pragma once

#include "base/memory.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SHA256_SIZE = 32, SHA256_HEX_SIZE = 65 }; // the second with its NUL

struct sha256; // opaque; a running hash

struct sha256 *sha256_new(void);
void sha256_free(struct sha256 *h);
void sha256_update(struct sha256 *h, const void *data, size_t size);
// Ends the hash; only sha256_free() may follow.
void sha256_final(struct sha256 *h, uint8_t digest[SHA256_SIZE]);

// Load what will be needed, before a process gives up the right to open files.
void sha256_prepare(void);

void sha256_of(const void *data, size_t size, uint8_t digest[SHA256_SIZE]);
// Is it 64 lower-case hexadecimal digits?
bool sha256_is_hex(const char *text);
// Lower-case hexadecimal with a NUL behind.
void sha256_hex(const uint8_t digest[SHA256_SIZE], char hex[SHA256_HEX_SIZE]);

DEFINE_CLEANUP(sha256_free, struct sha256 *, sha256_free)
#define cleanup_sha256 __attribute__((cleanup(sha256_freep)))
