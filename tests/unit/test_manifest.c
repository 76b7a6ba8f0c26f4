// SPDX-License-Identifier: Apache-2.0
#include "oci/image/manifest.h"

#include "base/buffer.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define HEX_A "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define HEX_B "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define A     "sha256:" HEX_A
#define B     "sha256:" HEX_B

#define OCI    "application/vnd.oci.image."
#define DOCKER "application/vnd.docker."

#define DESCRIPTOR(type, digest, size) \
	"{\"mediaType\":\"" type "\",\"digest\":\"" digest "\",\"size\":" size "}"
#define OCI_CONFIG		DESCRIPTOR(OCI "config.v1+json", A, "100")
#define DOCKER_CONFIG		DESCRIPTOR(DOCKER "container.image.v1+json", A, "7023")
#define GZIP_LAYER		DESCRIPTOR(OCI "layer.v1.tar+gzip", B, "10")
#define IMAGE(config, layers)	"{\"schemaVersion\":2,\"config\":" config ",\"layers\":[" layers "]}"
#define INDEX(entries)		"{\"schemaVersion\":2,\"manifests\":[" entries "]}"
#define ENTRY(digest, platform) ENTRY_OF(OCI "manifest.v1+json", digest, platform)
#define ENTRY_OF(type, digest, platform)                   \
	"{\"mediaType\":\"" type "\",\"digest\":\"" digest \
	"\",\"size\":500,\"platform\":" platform "}"
#define PLATFORM(os, architecture) "{\"os\":\"" os "\",\"architecture\":\"" architecture "\"}"
#define VARIANT(os, architecture, variant) \
	"{\"os\":\"" os "\",\"architecture\":\"" architecture "\",\"variant\":\"" variant "\"}"

static int parse(struct arena *a, const char *text, const char *type, struct oci_manifest *m,
	struct error *err)
{
	return oci_manifest_parse(a, text, strlen(text), type, m, err);
}

static void reads_docker_image(void **state)
{
	static const char text[] =
		"{\"schemaVersion\":2,\"mediaType\":\"" DOCKER "distribution.manifest.v2+json\","
		"\"config\":" DOCKER_CONFIG
		",\"layers\":[" DESCRIPTOR(DOCKER "image.rootfs.diff.tar.gzip", A,
			"32654") "," DESCRIPTOR(DOCKER "image.rootfs.diff.tar", B,
			"16724") ","
				 "{\"mediaType\":\"" DOCKER
				 "image.rootfs.diff.tar.zstd\",\"digest\":\"" B "\","
				 "\"size\":0,\"urls\":[\"https://example.org/"
				 "x\"],\"annotations\":null}]}";
	struct arena cleanup_arena a = {0};
	struct oci_manifest m;
	struct error err;

	(void)state;
	if (parse(&a, text, NULL, &m, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(m.kind, OCI_MANIFEST_IMAGE);
	assert_string_equal(m.config.media_type, DOCKER "container.image.v1+json");
	assert_string_equal(m.config.digest.text, A);
	assert_int_equal(m.config.size, 7023);
	assert_int_equal(m.layer_count, 3);
	assert_int_equal(m.layers[0].compression, OCI_COMPRESSION_GZIP);
	assert_int_equal(m.layers[1].compression, OCI_COMPRESSION_NONE);
	assert_int_equal(m.layers[2].compression, OCI_COMPRESSION_ZSTD);
	assert_int_equal(m.layers[0].descriptor.size, 32654);
	assert_string_equal(m.layers[1].descriptor.digest.text, B);
}

static void reads_oci_image(void **state)
{
	static const char text[] = IMAGE(
		OCI_CONFIG, DESCRIPTOR(OCI "layer.v1.tar", A, "1") "," GZIP_LAYER "," DESCRIPTOR(
				    OCI "layer.v1.tar+zstd", B, "3"));
	struct arena cleanup_arena a = {0};
	struct oci_manifest m;
	struct error err;

	(void)state;
	if (parse(&a, text, OCI "manifest.v1+json; charset=utf-8", &m, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(m.kind, OCI_MANIFEST_IMAGE);
	assert_int_equal(m.layer_count, 3);
	assert_int_equal(m.layers[0].compression, OCI_COMPRESSION_NONE);
	assert_int_equal(m.layers[1].compression, OCI_COMPRESSION_GZIP);
	assert_int_equal(m.layers[2].compression, OCI_COMPRESSION_ZSTD);
}

// Registries that lost the type of the answer or of the configuration.
static void tolerates(void **state)
{
	static const struct {
		const char *text, *type, *why;
		enum oci_manifest_kind kind;
	} cases[] = {
		{IMAGE(OCI_CONFIG, GZIP_LAYER), NULL, "told by its members", OCI_MANIFEST_IMAGE},
		{IMAGE(OCI_CONFIG, GZIP_LAYER), "application/json", "generic", OCI_MANIFEST_IMAGE},
		{IMAGE(OCI_CONFIG, GZIP_LAYER), "APPLICATION/VND.OCI.IMAGE.MANIFEST.V1+JSON",
			"case of a Content-Type", OCI_MANIFEST_IMAGE},
		{IMAGE(DESCRIPTOR("application/octet-stream", A, "9"), GZIP_LAYER), NULL,
			"the configuration's type was lost", OCI_MANIFEST_IMAGE},
		{INDEX(""), "text/plain", "an empty index", OCI_MANIFEST_INDEX},
		{"{\"schemaVersion\":2,\"mediaType\":\"\",\"layers\":null,\"manifests\":[]}", NULL,
			"null is absent", OCI_MANIFEST_INDEX},
		{"{\"schemaVersion\":2,\"mediaType\":\"" OCI "index.v1+json\",\"manifests\":[]}",
			OCI "manifest.v1+json", "the document's own type wins", OCI_MANIFEST_INDEX},
		{"{\"x\":[{\"y\":1}],\"manifests\":[],\"schemaVersion\":2}", NULL,
			"unknown members", OCI_MANIFEST_INDEX},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct arena cleanup_arena a = {0};
		struct oci_manifest m;
		struct error err;
		if (parse(&a, cases[i].text, cases[i].type, &m, &err) < 0)
			fail_msg("%s: %s", cases[i].why, err.text);
		assert_int_equal(m.kind, cases[i].kind);
	}
}

static const struct refusal {
	const char *text, *type, *expected;
} refusals[] = {
	{"", NULL, "manifest:"},
	{"<html>", NULL, "manifest:1:1"},
	{"[]", NULL, "manifest: must be an object"},
	{"{}", NULL, "manifest: neither an image manifest"},
	{"{\"errors\":[]}", NULL, "manifest: neither an image manifest"},
	{"{\"schemaVersion\":1,\"name\":\"a\",\"tag\":\"b\",\"fsLayers\":[],\"history\":[]}", NULL,
		"manifest: a Docker manifest of schema 1, a format given up in 2017; push the "
		"image "
		"again"},
	{"{\"fsLayers\":[]}", DOCKER "distribution.manifest.v1+prettyjws", "schema 1"},
	{"{\"schemaVersion\":3,\"config\":{},\"layers\":[]}", NULL, "schemaVersion: must be 2"},
	{"{\"config\":{},\"layers\":[]}", NULL, "schemaVersion: must be 2"},
	{"{\"schemaVersion\":\"2\"}", NULL, "schemaVersion: must be an integer"},
	{"{\"schemaVersion\":2,\"config\":" OCI_CONFIG ",\"layers\":[" GZIP_LAYER
	 "],\"manifests\":[]}",
		NULL, "both an image (\"config\", \"layers\") and an index (\"manifests\")"},
	{"{\"schemaVersion\":2,\"layers\":[],\"manifests\":[]}", OCI "index.v1+json",
		"both an image"},
	{"{\"schemaVersion\":2,\"mediaType\":\"" OCI "index.v1+json\",\"config\":{},\"layers\":[]}",
		NULL,
		"index.v1+json\" is its type, but its members are those of an image manifest"},
	{INDEX(""), OCI "manifest.v1+json", "is its type, but its members are those of an index"},
	{"{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.artifact.manifest.v1+json\"}",
		NULL, "mediaType: \"application/vnd.oci.artifact.manifest.v1+json\" is neither"},
	{"{\"schemaVersion\":2,\"config\":" OCI_CONFIG "}", NULL,
		"manifest: key \"layers\" is missing"},
	{"{\"schemaVersion\":2,\"layers\":[]}", NULL, "manifest: key \"config\" is missing"},
	{IMAGE(OCI_CONFIG, ""), NULL, "layers: the image is empty: it has no layers"},
	{IMAGE(DESCRIPTOR("application/vnd.oci.empty.v1+json", A, "2"), GZIP_LAYER), NULL,
		"config: this is an artifact with a configuration of type "
		"\"application/vnd.oci.empty.v1+json\", not an image"},
	{IMAGE(DESCRIPTOR("application/vnd.cncf.helm.config.v1+json", A, "2"), GZIP_LAYER), NULL,
		"helm.config.v1+json\", not an image"},
	{IMAGE(DESCRIPTOR(OCI "config.v1+json", A, "4194305"), GZIP_LAYER), NULL,
		"config: the image configuration has 4194305 bytes"},
	{IMAGE(OCI_CONFIG,
		 GZIP_LAYER "," DESCRIPTOR(DOCKER "image.rootfs.foreign.diff.tar.gzip", A, "2")),
		NULL,
		"layers[1]: a foreign layer (\"" DOCKER "image.rootfs.foreign.diff.tar.gzip\")"},
	{IMAGE(OCI_CONFIG, DESCRIPTOR(OCI "layer.nondistributable.v1.tar+zstd", A, "2")), NULL,
		"layers[0]: a foreign layer"},
	{IMAGE(OCI_CONFIG, DESCRIPTOR(OCI "layer.v1.tar+gzip+encrypted", A, "2")), NULL,
		"layers[0]: an encrypted layer"},
	{IMAGE(OCI_CONFIG, GZIP_LAYER "," DESCRIPTOR("application/vnd.in-toto+json", A, "2")), NULL,
		"layers[1]: a layer of type \"application/vnd.in-toto+json\", which is not a file "
		"system layer"},
	{IMAGE(OCI_CONFIG, "{\"digest\":\"" A "\",\"size\":1}"), NULL,
		"layers[0]: key \"mediaType\" is missing"},
	{IMAGE(OCI_CONFIG, "7"), NULL, "layers[0]: must be an object"},
	{IMAGE(OCI_CONFIG, DESCRIPTOR(OCI "layer.v1.tar", A, "-1")), NULL,
		"layers[0].size: must be a non-negative integer"},
	{IMAGE(OCI_CONFIG, DESCRIPTOR(OCI "layer.v1.tar", A, "1.5")), NULL,
		"layers[0].size: must be a non-negative integer"},
	{IMAGE(OCI_CONFIG, DESCRIPTOR(OCI "layer.v1.tar", A, "9223372036854775808")), NULL,
		"manifest:1:"},
	{IMAGE(OCI_CONFIG, DESCRIPTOR(OCI "layer.v1.tar", A, "1125899906842625")), NULL,
		"layers[0].size: more than 1 PiB, which no image has"},
	{IMAGE(OCI_CONFIG, DESCRIPTOR(OCI "layer.v1.tar", A, "1125899906842624") "," GZIP_LAYER),
		NULL, "layers: more than 1 PiB together"},
	{IMAGE(OCI_CONFIG, DESCRIPTOR(OCI "layer.v1.tar", "md5:12", "1")), NULL,
		"layers[0].digest: \"md5:12\" is not a digest"},
	{IMAGE(OCI_CONFIG, DESCRIPTOR(OCI "layer.v1.tar", "sha256:../../../x", "1")), NULL,
		"layers[0].digest: "},
	{IMAGE(OCI_CONFIG, DESCRIPTOR(OCI "layer.v1.tar", A "\\u0000", "1")), NULL, "manifest:1:"},
	{"{\"schemaVersion\":2,\"schemaVersion\":2,\"manifests\":[]}", NULL, "manifest:1:"},
	{IMAGE("{\"digest\":7,\"size\":1}", GZIP_LAYER), NULL, "config.digest: must be a string"},
	{IMAGE("{\"size\":1}", GZIP_LAYER), NULL, "config: key \"digest\" is missing"},
	{IMAGE(OCI_CONFIG, "{\"mediaType\":7}"), NULL, "layers[0].mediaType: must be a string"},
	{"{\"schemaVersion\":2,\"manifests\":[{}]}", NULL,
		"manifests[0]: key \"digest\" is missing"},
	{INDEX(ENTRY(A, "[]")), NULL, "manifests[0].platform: must be an object"},
	{INDEX(ENTRY(A, PLATFORM("linux", "abcdefghijklmnopqrstuvwxyz-abcdefgh"))), NULL,
		"manifests[0].platform.architecture: longer than 31 characters"},
	{"{\"schemaVersion\":2,\"manifests\":{}}", NULL, "manifests: must be an array"},
};

static void refuses(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		const struct refusal *c = &refusals[i];
		struct arena cleanup_arena a = {0};
		struct oci_manifest m;
		struct error err;
		if (parse(&a, c->text, c->type, &m, &err) == 0)
			fail_msg("accepted %s", c->text);
		if (!strstr(err.text, c->expected))
			fail_msg("%s: %s", c->text, err.text);
		bool limit = strstr(err.text, "at most") != NULL;
		assert_int_equal(err.kind, limit ? ERROR_LIMIT : ERROR_INVALID);
	}
}

// `count` times `item`, comma-separated, between two texts.
static int parse_repeated(const char *before, const char *item, size_t count, const char *after,
	struct arena *a, struct oci_manifest *m, struct error *err)
{
	struct buffer cleanup_buffer text = {0};

	buffer_printf(&text, "%s", before);
	for (size_t i = 0; i < count; i++)
		buffer_printf(&text, "%s%s", i ? "," : "", item);
	buffer_printf(&text, "%s", after);
	return oci_manifest_parse(a, text.data, text.size, NULL, m, err);
}

static void bounds_counts(void **state)
{
	static const struct {
		const char *before, *item, *after;
		size_t count;
		const char *expected; // NULL: fits
	} cases[] = {
		{"{\"schemaVersion\":2,\"config\":" OCI_CONFIG ",\"layers\":[", GZIP_LAYER, "]}",
			OCI_LAYERS_MAX, NULL},
		{"{\"schemaVersion\":2,\"config\":" OCI_CONFIG ",\"layers\":[", GZIP_LAYER, "]}",
			OCI_LAYERS_MAX + 1,
			"manifest: layers: 501 elements, at most 500 are allowed"},
		{"{\"schemaVersion\":2,\"config\":" OCI_CONFIG ",\"layers\":[", GZIP_LAYER, "]}",
			10000, "manifest: layers: 10000 elements, at most 500 are allowed"},
		{"{\"schemaVersion\":2,\"manifests\":[", ENTRY(A, "null"), "]}",
			OCI_INDEX_ENTRIES_MAX, NULL},
		{"{\"schemaVersion\":2,\"manifests\":[", ENTRY(A, "null"), "]}",
			OCI_INDEX_ENTRIES_MAX + 1, "manifests: 1001 elements, at most 1000"},
		{"{\"schemaVersion\":2,\"x\":[", "0", "],\"manifests\":[]}", 300000, "manifest:"},
		{"{\"schemaVersion\":2,\"x\":[", GZIP_LAYER, "],\"manifests\":[]}", 40000,
			"manifest"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct arena cleanup_arena a = {0};
		struct oci_manifest m;
		struct error err;
		int status = parse_repeated(cases[i].before, cases[i].item, cases[i].count,
			cases[i].after, &a, &m, &err);
		assert_int_equal(status, cases[i].expected ? -1 : 0);
		if (!cases[i].expected)
			continue;
		assert_int_equal(err.kind, ERROR_LIMIT);
		if (!strstr(err.text, cases[i].expected))
			fail_msg("%s", err.text);
	}
}

static void bounds_depth(void **state)
{
	struct buffer cleanup_buffer text = {0};
	struct arena cleanup_arena a = {0};
	struct oci_manifest m;
	struct error err;

	(void)state;
	buffer_printf(&text, "{\"schemaVersion\":2,\"manifests\":");
	for (size_t i = 0; i < 100000; i++)
		buffer_printf(&text, "[");
	assert_int_equal(oci_manifest_parse(&a, text.data, text.size, NULL, &m, &err), -1);
	assert_int_equal(err.kind, ERROR_LIMIT);
}

#define DEBIAN_INDEX                                              \
	INDEX(ENTRY(A, PLATFORM("unknown", "unknown")) "," ENTRY( \
		A, PLATFORM("linux", "amd64")) "," ENTRY(B,       \
		VARIANT("linux", "arm", "v5")) "," ENTRY(A,       \
		VARIANT("linux", "arm", "v7")) "," ENTRY(B,       \
		VARIANT("linux", "arm64", "v8")) "," ENTRY(B,     \
		PLATFORM("windows", "amd64")) "," ENTRY(A, PLATFORM("windows", "amd64")))

static void chooses(void **state)
{
	static const struct {
		const char *text, *want;
		int expected; // -1: none
		const char *error;
	} cases[] = {
		{DEBIAN_INDEX, "linux/amd64", 1, NULL},
		{DEBIAN_INDEX, "linux/amd64/v3", 1, NULL},
		{DEBIAN_INDEX, "linux/arm/v7", 3, NULL},
		{DEBIAN_INDEX, "linux/arm/v6", 2, NULL},
		{DEBIAN_INDEX, "linux/arm64", 4, NULL},
		{DEBIAN_INDEX, "windows/amd64", 5, NULL}, // the first of equals
		{DEBIAN_INDEX, "linux/s390x", -1,
			"no image for linux/s390x; there are linux/amd64, linux/arm/v5, "
			"linux/arm/v7, "
			"linux/arm64/v8, windows/amd64"},
		{DEBIAN_INDEX, "unknown/unknown", -1, "no image for unknown/unknown"},
		{INDEX(""), "linux/amd64", -1,
			"no image for linux/amd64: the index names no platform at all"},
		{INDEX(ENTRY(A, "null")), "linux/amd64", 0, NULL},
		{INDEX(ENTRY(A, "{}")), "linux/amd64", 0, NULL},
		{INDEX(ENTRY(A, "null") "," ENTRY(B, "null")), "linux/amd64", -1,
			"the index names no platform at all"},
		{INDEX(ENTRY(A, PLATFORM("linux", "arm64")) "," ENTRY(B, "null")), "linux/amd64",
			-1, "there are linux/arm64/v8"},
		{INDEX(ENTRY(A, "null") "," ENTRY(B, PLATFORM("unknown", "unknown"))),
			"linux/amd64", 0, NULL},
		{INDEX(ENTRY_OF("application/x", A, PLATFORM("linux", "amd64"))), "linux/amd64", -1,
			"the index names no platform at all"},
		{INDEX(ENTRY(A, PLATFORM("linux", "x86_64"))), "linux/amd64", 0, NULL},
		{INDEX(ENTRY_OF(OCI "index.v1+json", A, PLATFORM("linux", "amd64"))), "linux/amd64",
			0, NULL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct arena cleanup_arena a = {0};
		const struct oci_index_entry *entry = NULL;
		struct oci_platform want;
		struct oci_manifest m;
		struct error err;
		assert_int_equal(oci_platform_parse(cases[i].want, &want, &err), 0);
		if (parse(&a, cases[i].text, NULL, &m, &err) < 0)
			fail_msg("%s", err.text);
		int status = oci_index_choose(&m, &want, &entry, &err);
		if (status == 0) {
			assert_ptr_equal(entry, m.entries + cases[i].expected);
			continue;
		}
		if (cases[i].expected >= 0)
			fail_msg("%s", err.text);
		assert_int_equal(err.kind, ERROR_NOT_FOUND);
		if (!strstr(err.text, cases[i].error))
			fail_msg("%s", err.text);
	}
}

static void shortens_list(void **state)
{
	struct oci_index_entry entries[200] = {0};
	struct oci_manifest index = {
		.kind = OCI_MANIFEST_INDEX, .entries = entries, .entry_count = 200};
	struct oci_platform want = {.os = "linux", .architecture = "amd64"};
	const struct oci_index_entry *entry;
	struct error err;

	(void)state;
	for (size_t i = 0; i < 200; i++) {
		struct oci_index_entry *e = &entries[i];
		e->descriptor.media_type = "";
		e->has_platform = true;
		memcpy(e->platform.os, "linux", 6);
		memset(e->platform.architecture, 'a' + (int)(i % 26), 1 + i / 26);
	}
	assert_int_equal(oci_index_choose(&index, &want, &entry, &err), -1);
	assert_non_null(strstr(err.text, "there are linux/a, linux/b, "));
	assert_true(ends_with(err.text, " more"));
	assert_true(strlen(err.text) < 400);
}

static void asks_for_all_types(void **state)
{
	(void)state;
	assert_string_equal(oci_manifest_accept,
		OCI "index.v1+json, " DOCKER "distribution.manifest.list.v2+json, " OCI
		    "manifest.v1+json, " DOCKER "distribution.manifest.v2+json");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_docker_image),
		cmocka_unit_test(reads_oci_image),
		cmocka_unit_test(tolerates),
		cmocka_unit_test(refuses),
		cmocka_unit_test(bounds_counts),
		cmocka_unit_test(bounds_depth),
		cmocka_unit_test(chooses),
		cmocka_unit_test(shortens_list),
		cmocka_unit_test(asks_for_all_types),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
