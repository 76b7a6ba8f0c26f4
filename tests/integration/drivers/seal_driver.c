// SPDX-License-Identifier: Apache-2.0
//
// Environments without a build:
//   seal_driver tar FOLDER              the folder's archive, to standard output
//   seal_driver seal STATE RUN BASE REFERENCE TREE erofs|directory KEY LOCK [K=V …]
//       make the derived image REFERENCE; prints the diff id and the archive's size
#include "agent/environment/seal.h"
#include "base/file.h"
#include "base/text.h"
#include "oci/layer/tree_reader.h"
#include "oci/registry/fetcher.h"

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

static int seal(char **argv, int count, struct error *err)
{
	cleanup_store struct store *s = store_open(argv[0], argv[1], &store_limits_default, err);
	struct oci_reference base;
	struct store_image image;
	struct seal_result r;
	if (!s || oci_reference_parse(argv[2], &base, err) < 0 ||
		store_image_get(s, &base, &image, err) < 0)
		return -1;
	cleanup_fd int tree = directory_open(AT_FDCWD, argv[4], err);
	if (tree < 0)
		return -1;
	const struct json_strings activation = {
		.items = (const char **)argv + 8, .count = (size_t)count - 8};
	const struct seal_options o = {
		.store = s,
		.base = &image,
		.format = streq(argv[5], "erofs") ? LAYER_EROFS : LAYER_DIRECTORY,
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

int main(int argc, char **argv)
{
	struct error err = {0};
	if (argc == 2 && streq(argv[1], "tree"))
		return tree_reader_main();
	if (argc == 2 && streq(argv[1], "layer"))
		return layer_worker_main();
	int rc = 2;
	if (argc == 3 && streq(argv[1], "tar"))
		rc = print_archive(argv[2], &err);
	else if (argc >= 10 && streq(argv[1], "seal"))
		rc = seal(argv + 2, argc - 2, &err);
	if (rc < 0)
		fprintf(stderr, "seal_driver: %s\n", err.text);
	return rc < 0 ? 1 : rc;
}
