// SPDX-License-Identifier: Apache-2.0
//
// The choice of an index's entry for a platform.
#include "oci/image/manifest.h"

#include "base/text.h"
#include "oci/image/media_type.h"

#include <stdio.h>

static bool is_attestation(const struct oci_index_entry *e)
{
	return e->has_platform && streq(e->platform.os, "unknown") &&
	       streq(e->platform.architecture, "unknown");
}

// Attestations are no images, and entries of types we do not know are to be skipped, says the
// specification.
static bool is_candidate(const struct oci_index_entry *e)
{
	enum oci_manifest_kind kind;

	return !is_attestation(e) &&
	       (e->descriptor.media_type[0] == '\0' ||
		       oci_media_type_manifest(e->descriptor.media_type, &kind));
}

static bool listed_before(const struct oci_manifest *index, size_t at)
{
	const struct oci_platform *p = &index->entries[at].platform;

	for (size_t i = 0; i < at; i++) {
		const struct oci_index_entry *e = &index->entries[i];
		if (is_candidate(e) && e->has_platform && streq(e->platform.os, p->os) &&
			streq(e->platform.architecture, p->architecture) &&
			streq(e->platform.variant, p->variant))
			return true;
	}
	return false;
}

static int fail_choice(
	const struct oci_manifest *index, const struct oci_platform *want, struct error *err)
{
	char list[300] = "", text[OCI_PLATFORM_TEXT_MAX];
	size_t used = 0, more = 0;

	for (size_t i = 0; i < index->entry_count; i++) {
		const struct oci_index_entry *e = &index->entries[i];
		if (!is_candidate(e) || !e->has_platform || listed_before(index, i))
			continue;
		oci_platform_format(&e->platform, text);
		size_t n = strlen(text) + (used ? 2 : 0);
		if (more || used + n >= sizeof(list)) {
			more++;
			continue;
		}
		snprintf(list + used, sizeof(list) - used, "%s%s", used ? ", " : "", text);
		used += n;
	}

	oci_platform_format(want, text);
	if (!used)
		return error_set(err, ERROR_NOT_FOUND,
			"no image for %s: the index names no platform at all", text);
	if (more)
		return error_set(err, ERROR_NOT_FOUND, "no image for %s; there are %s and %zu more",
			text, list, more);
	return error_set(err, ERROR_NOT_FOUND, "no image for %s; there are %s", text, list);
}

int oci_index_choose(const struct oci_manifest *index, const struct oci_platform *want,
	const struct oci_index_entry **entry, struct error *err)
{
	const struct oci_index_entry *best = NULL, *last = NULL;
	size_t candidates = 0;
	int best_score = 0;

	for (size_t i = 0; i < index->entry_count; i++) {
		const struct oci_index_entry *e = &index->entries[i];
		if (!is_candidate(e))
			continue;
		candidates++;
		last = e;
		int score = e->has_platform ? oci_platform_match(want, &e->platform) : 0;
		if (score > best_score) {
			best_score = score;
			best = e;
		}
	}

	// The only image of an index that says nothing about its platform: its configuration will.
	if (!best && candidates == 1 && !last->has_platform)
		best = last;
	if (!best)
		return fail_choice(index, want, err);
	*entry = best;
	return 0;
}
