// SPDX-License-Identifier: Apache-2.0
#include "oci/image/decode.h"

#include "oci/image/digest.h"
#include "oci/image/platform.h"

#include <string.h>

int oci_decode_digest(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	const char *text;
	struct error why;

	if (json_decode_string(d, value, &text, err) < 0)
		return -1;
	if (oci_digest_parse(text, target, &why) < 0)
		return json_decode_fail(d, value, err, why.kind, "%s", why.text);
	return 0;
}

int oci_decode_platform_word(
	struct json_decoder *d, const struct json *value, void *target, struct error *err)
{
	enum { WORD_MAX = sizeof(((struct oci_platform *)NULL)->os) - 1 };
	const char *s;

	if (json_decode_string(d, value, &s, err) < 0)
		return -1;
	if (strlen(s) > WORD_MAX)
		return json_decode_fail(
			d, value, err, ERROR_INVALID, "longer than %d characters", WORD_MAX);
	memcpy(target, s, strlen(s) + 1);
	return 0;
}
