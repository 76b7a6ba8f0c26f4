// SPDX-License-Identifier: Apache-2.0
//
// Where objects are: s3://BUCKET[/PREFIX][?NAME=VALUE[&NAME=VALUE…]]. Names are endpoint (a URL,
// for other stores than Amazon's), region (us-east-1), path_style (1: the bucket is in the path and
// not in the host's name; so it is where an endpoint is given), credentials (a file, see
// s3_credentials.h) and ca (PEM file). Values stand as they are, without percent encoding.
#pragma once

#include "base/arena.h"
#include "base/error.h"

#include <stdbool.h>

struct s3_address {
	struct arena arena;
	const char *bucket, *region;
	const char *url;	      // of the bucket, and the prefix: all keys go behind it
	const char *credentials, *ca; // NULL: none
};

// Does it begin with s3://?
bool s3_address_is(const char *text);
// ERROR_INVALID says what is wrong. Of text the error shows no values: a secret may stand where
// none belongs.
int s3_address_parse(struct s3_address *a, const char *text, struct error *err);
void s3_address_release(struct s3_address *a);
