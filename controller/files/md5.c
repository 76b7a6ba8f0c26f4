// SPDX-License-Identifier: Apache-2.0
//
// For Content-MD5 only: the one check of a body on its way that every S3-compatible server makes.
#include "base/text.h"
#include "controller/files/s3_internal.h"

#include <dlfcn.h>
#include <openssl/evp.h>

static struct {
	__typeof__(&EVP_Q_digest) digest;
	__typeof__(&EVP_EncodeBlock) encode;
} evp;

void md5_prepare(void)
{
	void *handle = dlopen("libcrypto.so.3", RTLD_NOW | RTLD_LOCAL); // never closed
	void *digest = handle ? dlsym(handle, "EVP_Q_digest") : NULL;
	void *encode = handle ? dlsym(handle, "EVP_EncodeBlock") : NULL;
	if (!digest || !encode)
		return;
	memcpy(&evp.digest, &digest, sizeof(digest));
	memcpy(&evp.encode, &encode, sizeof(encode));
}

bool md5_text(const void *data, size_t size, char text[MD5_TEXT_SIZE])
{
	unsigned char md5[EVP_MAX_MD_SIZE];
	size_t length = 0;
	if (!evp.digest || evp.digest(NULL, "MD5", NULL, data, size, md5, &length) != 1 ||
		length != 16)
		return false;
	evp.encode((unsigned char *)text, md5, (int)length);
	return true;
}
