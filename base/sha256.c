// SPDX-License-Identifier: Apache-2.0
#include "base/sha256.h"

#include <openssl/evp.h>

// libcrypto fails here only for want of memory, and that aborts everywhere else too.
static void must(int ok)
{
	if (ok != 1)
		abort();
}

struct sha256 *sha256_new(void)
{
	EVP_MD_CTX *c = EVP_MD_CTX_new();
	must(c != NULL);
	must(EVP_DigestInit_ex(c, EVP_sha256(), NULL));
	return (struct sha256 *)c;
}

void sha256_free(struct sha256 *h)
{
	EVP_MD_CTX_free((EVP_MD_CTX *)h);
}

void sha256_update(struct sha256 *h, const void *data, size_t size)
{
	must(EVP_DigestUpdate((EVP_MD_CTX *)h, data, size));
}

void sha256_final(struct sha256 *h, uint8_t digest[SHA256_SIZE])
{
	must(EVP_DigestFinal_ex((EVP_MD_CTX *)h, digest, NULL));
}

void sha256_of(const void *data, size_t size, uint8_t digest[SHA256_SIZE])
{
	cleanup_sha256 struct sha256 *h = sha256_new();
	sha256_update(h, data, size);
	sha256_final(h, digest);
}

void sha256_hex(const uint8_t digest[SHA256_SIZE], char hex[SHA256_HEX_SIZE])
{
	static const char digits[] = "0123456789abcdef";
	for (int i = 0; i < SHA256_SIZE; i++) {
		hex[2 * i] = digits[digest[i] >> 4];
		hex[2 * i + 1] = digits[digest[i] & 15];
	}
	hex[2 * SHA256_SIZE] = '\0';
}
