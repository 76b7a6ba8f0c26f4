// SPDX-License-Identifier: Apache-2.0
#include "agent/environment/records.h"

#include "base/time.h"

// One that a job uses stays, by the lock of its layer.
void environment_records_expire(struct store *s, uint64_t keep_for_ms)
{
	cleanup_arena struct arena a = {0};
	struct environment_record *records;
	struct error ignored;
	size_t count;
	if (!keep_for_ms || environment_record_list(s, &a, &records, &count, &ignored) < 0)
		return;
	for (size_t i = 0; i < count; i++)
		if (wall_ms() - records[i].used_ms > (int64_t)keep_for_ms)
			environment_record_remove(s, records[i].key, &ignored);
}
