// SPDX-License-Identifier: Apache-2.0
//
// The key that requests are signed with: of a file in the form of ~/.aws/credentials (its [default]
// section: aws_access_key_id, aws_secret_access_key, aws_session_token), which is read again when
// it was changed, so that keys can be replaced under way; without a file of the environment
// (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN). Safe for threads.
#pragma once

#include "base/error.h"

struct s3_credentials;

// `file` NULL: of the environment. ERROR_NOT_FOUND or ERROR_INVALID where there is no usable key.
struct s3_credentials *s3_credentials_open(const char *file, struct error *err);
void s3_credentials_free(struct s3_credentials *c);

struct s3_key {
	char *user;  // "ID:SECRET"
	char *token; // NULL: none
};
// What holds now. The caller releases it. A file that cannot be read at the moment, as while it is
// being replaced, leaves the key before.
void s3_credentials_get(struct s3_credentials *c, struct s3_key *key);
void s3_key_release(struct s3_key *key); // wiped
#define cleanup_s3_key __attribute__((cleanup(s3_key_release)))
