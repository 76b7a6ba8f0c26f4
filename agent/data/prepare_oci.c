// SPDX-License-Identifier: Apache-2.0
#include "agent/data/prepare.h"
int prepare_oci(struct prepare *p, size_t source, struct error *err)
{
	(void)source;
	(void)err;
	return prepare_fail(p, DATA_UNSUPPORTED);
}
