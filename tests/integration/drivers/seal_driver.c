// SPDX-License-Identifier: Apache-2.0
//
// Environments without a build:
//   seal_driver tar FOLDER              the folder's archive, to standard output
//   seal_driver seal STATE RUN BASE REFERENCE TREE erofs|directory KEY LOCK [K=V …]
//       make the derived image REFERENCE; prints the diff id and the archive's size
//   seal_driver environment STATE RUN BASE TREE erofs|directory LOCK-FILE REQUEST [K=V …]
//       the same, recorded as the environment that the lock describes and the request led to;
//       prints its key
//   seal_driver fetch STATE RUN BASE CONFIG REQUEST
//       look into the registry that the configuration names; prints the key, or "no"
#include "agent/environment/seal.h"
#include "agent/environment/share.h"
#include "base/file.h"
#include "base/text.h"
#include "base/time.h"
#include "oci/layer/tree_reader.h"
#include "oci/registry/fetcher.h"
#include "oci/registry/pusher.h"

#include <stdio.h>
#include <unistd.h>

static int print_archive(const char *folder, struct error *err)
{
	struct tree_reader r;
	char chunk[65536];
	cleanup_fd int fd = directory_open(AT_FDCWD, folder, err);
	if (fd < 0)
		return -1;
	int rc = tree_reader_start(fd, &layer_limits_default, &r, err);
	ssize_t n = 0;
	while (rc == 0 && (n = read(r.archive_fd, chunk, sizeof(chunk))) > 0)
		rc = write_all(STDOUT_FILENO, chunk, (size_t)n, "output", err);
	if (rc == 0)
		rc = tree_reader_finish(&r, err);
	tree_reader_release(&r);
	return rc;
}

static int open_base(char **argv, struct store **s, struct store_image *image, struct error *err)
{
	struct oci_reference base;
	*s = store_open(argv[0], argv[1], &store_limits_default, err);
	if (!*s || oci_reference_parse(argv[2], &base, err) < 0)
		return -1;
	return store_image_get(*s, &base, image, err);
}

static enum layer_format format_of(const char *name)
{
	return streq(name, "erofs") ? LAYER_EROFS : LAYER_DIRECTORY;
}

static int seal(char **argv, int count, struct error *err)
{
	cleanup_store struct store *s = NULL;
	struct store_image image;
	struct seal_result r;
	if (open_base(argv, &s, &image, err) < 0)
		return -1;
	cleanup_fd int tree = directory_open(AT_FDCWD, argv[4], err);
	if (tree < 0)
		return -1;
	const struct json_strings activation = {
		.items = (const char **)argv + 8, .count = (size_t)count - 8};
	const struct seal_options o = {
		.store = s,
		.base = &image,
		.format = format_of(argv[5]),
		.tree_fd = tree,
		.activation = &activation,
		.reference = argv[3],
		.key = argv[6],
		.lock = argv[7],
	};
	if (environment_seal(&o, &r, err) < 0)
		return -1;
	printf("%s %llu\n", r.diff_id.text, (unsigned long long)r.bytes);
	return 0;
}

// What the end of a build does.
static int seal_and_record(struct seal_options *o, struct environment_lock *lock,
	const char *request, struct error *err)
{
	cleanup_buffer struct buffer text = {0};
	char key[ENVIRONMENT_KEY_SIZE], name[OCI_REFERENCE_TEXT_MAX], base[OCI_REFERENCE_TEXT_MAX];
	struct seal_result r;
	lock->image = o->base->manifest.text;
	if (environment_lock_write(lock, &text, key, err) < 0)
		return -1;
	const struct oci_reference reference = environment_reference(key);
	o->reference = oci_reference_format(&reference, name);
	o->key = key;
	o->lock = text.data;
	if (environment_seal(o, &r, err) < 0)
		return -1;
	struct environment_record record = {.key = key,
		.reference = o->reference,
		.base = oci_reference_format(&o->base->reference, base),
		.base_manifest = lock->image,
		.layer = r.diff_id.text,
		.bytes = r.bytes,
		.created_ms = wall_ms(),
		.origin = "built",
		.lock = o->lock,
		.activation = *o->activation};
	struct environment_answer answer = {
		.config = r.image.config.text, .resolved_ms = wall_ms()};
	memcpy(answer.key, key, sizeof(key));
	if (environment_record_write(o->store, &record, err) < 0 ||
		environment_answer_write(o->store, request, &answer, err) < 0)
		return -1;
	printf("%s\n", key);
	return 0;
}

static int make_environment(char **argv, int count, struct error *err)
{
	cleanup_arena struct arena a = {0};
	cleanup_buffer struct buffer text = {0};
	cleanup_store struct store *s = NULL;
	struct store_image image;
	struct environment_lock lock;
	if (open_base(argv, &s, &image, err) < 0 ||
		file_read(AT_FDCWD, argv[5], LOCK_BYTES_MAX, &text, err) < 0 ||
		environment_lock_parse(&a, text.data, text.size, argv[5], &lock, err) < 0)
		return -1;
	cleanup_fd int tree = directory_open(AT_FDCWD, argv[3], err);
	if (tree < 0)
		return -1;
	const struct json_strings activation = {
		.items = (const char **)argv + 7, .count = (size_t)count - 7};
	struct seal_options o = {
		.store = s,
		.base = &image,
		.format = format_of(argv[4]),
		.tree_fd = tree,
		.activation = &activation,
	};
	return seal_and_record(&o, &lock, argv[6], err);
}

static void on_notice(void *data, const char *text)
{
	(void)data;
	fprintf(stderr, "%s\n", text);
}

static int fetch(char **argv, struct error *err)
{
	static const struct environment_events events = {.notice = on_notice};
	cleanup_config struct config config = {0};
	cleanup_store struct store *s = NULL;
	struct store_image image;
	struct environment_result r;
	const struct config_overrides overrides = {.config = argv[3]};
	if (config_load(&config, &overrides, err) < 0 || open_base(argv, &s, &image, err) < 0)
		return -1;
	const struct environment_options o = {
		.store = s, .config = &config, .image = &image, .log_fd = -1, .events = &events};
	int found = environment_fetch(&o, argv[4], &r, err);
	if (found > 0)
		store_layers_release(&r.layers);
	if (found >= 0)
		printf("%s\n", found ? r.key : "no");
	return found < 0 ? -1 : 0;
}

static const struct {
	const char *name;
	int (*run)(void);
} helpers[] = {
	{"tree", tree_reader_main},
	{"layer", layer_worker_main},
	{"fetcher", fetcher_main},
	{"pusher", pusher_main},
};

int main(int argc, char **argv)
{
	struct error err = {0};
	for (size_t i = 0; argc == 2 && i < array_size(helpers); i++)
		if (streq(argv[1], helpers[i].name))
			return helpers[i].run();
	int rc = 2;
	if (argc == 3 && streq(argv[1], "tar"))
		rc = print_archive(argv[2], &err);
	else if (argc >= 10 && streq(argv[1], "seal"))
		rc = seal(argv + 2, argc - 2, &err);
	else if (argc >= 9 && streq(argv[1], "environment"))
		rc = make_environment(argv + 2, argc - 2, &err);
	else if (argc == 7 && streq(argv[1], "fetch"))
		rc = fetch(argv + 2, &err);
	if (rc < 0)
		fprintf(stderr, "seal_driver: %s\n", err.text);
	return rc < 0 ? 1 : rc;
}
