// SPDX-License-Identifier: Apache-2.0
//
// Streams are hashed by libcrypto, at 1 to 2 GB/s, which is loaded at their first use: its
// relocations and pages cost every process 1.4 MB and a millisecond, and most of ours hash a few
// short texts at most. Those, and everything where libcrypto is missing, are hashed by
// sha256_plain.c.
#include "base/sha256.h"

#include "base/sha256_plain.h"

#include <dlfcn.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

enum { SHORT_MAX = 16 * 1024 };

static const char library[] = "libcrypto.so.3";

#define EVP_FUNCTIONS(X)   \
	X(EVP_MD_CTX_new)  \
	X(EVP_MD_CTX_free) \
	X(EVP_sha256) X(EVP_DigestInit_ex) X(EVP_DigestUpdate) X(EVP_DigestFinal_ex)

static struct evp_functions {
#define X(name) __typeof__(&(name)) name;
	EVP_FUNCTIONS(X)
#undef X
} evp;

struct sha256 {
	EVP_MD_CTX *context; // NULL: plain
	struct sha256_plain plain;
};

// libcrypto fails here only for want of memory, and that aborts everywhere else too.
static void must(int ok)
{
	if (ok != 1)
		abort();
}

static bool load_functions(void *handle, struct evp_functions *functions)
{
#define X(name)                                                    \
	{                                                          \
		void *symbol = dlsym(handle, #name);               \
		if (!symbol)                                       \
			return false;                              \
		memcpy(&functions->name, &symbol, sizeof(symbol)); \
	}
	EVP_FUNCTIONS(X)
#undef X
	return true;
}

static bool loaded;

// Never closed: it leaves exit handlers behind.
static void load(void)
{
	struct evp_functions found;
	void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
	loaded = handle && load_functions(handle, &found);
	if (loaded)
		evp = found;
}

static bool is_loaded(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, load);
	return loaded;
}

struct sha256 *sha256_new(void)
{
	struct sha256 *h = xcalloc(1, sizeof(*h));
	if (is_loaded()) {
		h->context = evp.EVP_MD_CTX_new();
		must(h->context != NULL);
		must(evp.EVP_DigestInit_ex(h->context, evp.EVP_sha256(), NULL));
	} else {
		sha256_plain_init(&h->plain);
	}
	return h;
}

void sha256_free(struct sha256 *h)
{
	if (!h)
		return;
	if (h->context)
		evp.EVP_MD_CTX_free(h->context);
	free(h);
}

void sha256_update(struct sha256 *h, const void *data, size_t size)
{
	if (h->context)
		must(evp.EVP_DigestUpdate(h->context, data, size));
	else
		sha256_plain_update(&h->plain, data, size);
}

void sha256_final(struct sha256 *h, uint8_t digest[SHA256_SIZE])
{
	if (h->context)
		must(evp.EVP_DigestFinal_ex(h->context, digest, NULL));
	else
		sha256_plain_final(&h->plain, digest);
}

void sha256_of(const void *data, size_t size, uint8_t digest[SHA256_SIZE])
{
	if (size <= SHORT_MAX) {
		struct sha256_plain plain;
		sha256_plain_init(&plain);
		sha256_plain_update(&plain, data, size);
		sha256_plain_final(&plain, digest);
		return;
	}
	cleanup_sha256 struct sha256 *h = sha256_new();
	sha256_update(h, data, size);
	sha256_final(h, digest);
}

void sha256_prepare(void)
{
	uint8_t ignored[SHA256_SIZE];
	cleanup_sha256 struct sha256 *h = sha256_new();
	sha256_final(h, ignored);
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

bool sha256_is_hex(const char *text)
{
	return strlen(text) == SHA256_HEX_SIZE - 1 &&
	       strspn(text, "0123456789abcdef") == SHA256_HEX_SIZE - 1;
}
