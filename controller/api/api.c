// SPDX-License-Identifier: Apache-2.0
#include "controller/api/api.h"

void api_begin(struct json_writer **writer)
{
	json_writer_free(*writer);
	*writer = json_writer_new(false);
}

int api_reply(struct request *r, int status, struct json_writer *writer, int rc, struct error *err)
{
	if (rc == 0)
		rc = reply_json(r, status, writer, err);
	json_writer_free(writer);
	return rc;
}
