// SPDX-License-Identifier: Apache-2.0
#include "agent/job/certificates.h"

#include "base/file.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define PEM(body) "-----BEGIN CERTIFICATE-----\n" body "\n-----END CERTIFICATE-----\n"
#define A	  PEM("AAAA")
#define B	  PEM("BBBB")
#define C	  PEM("CCCC")

struct place {
	char folder[32];
	int fd;
};

static int set_up(void **state)
{
	static struct place p;
	snprintf(p.folder, sizeof(p.folder), "/tmp/stoker-test-XXXXXX");
	if (!mkdtemp(p.folder))
		return -1;
	p.fd = open(p.folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = &p;
	return p.fd < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
	struct place *p = *state;
	struct error err;
	close(p->fd);
	return directory_remove(AT_FDCWD, p->folder, &err);
}

static void put(const struct place *p, const char *path, const char *text)
{
	struct error err;
	char folder[256];
	const char *base = path_base(path);
	snprintf(folder, sizeof(folder), "%.*s", (int)(base - path), path);
	if (*folder)
		assert_int_equal(directory_make(p->fd, folder, 0755, &err), 0);
	assert_int_equal(file_write_atomic(p->fd, path, text, strlen(text), 0644, &err), 0);
}

static void joins(void **state)
{
	static const struct {
		const char *image, *node, *expected;
		size_t added;
	} cases[] = {
		{NULL, A B, A B, 2},
		{"", A, A, 1},
		{A B, A C, A B C, 1},
		{A B, B A, A B, 0},
		{"# comment\n" A "text\n", "My authority\n" B, A B, 1},
		{A "-----BEGIN CERTIFICATE-----\nhalf", B, A B, 1},
		{"-----END CERTIFICATE-----\n" A, A, A, 0},
		{"-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n", A, A, 1},
		{PEM("AAA"), A, PEM("AAA") A, 1},
	};
	const struct place *p = *state;
	for (size_t i = 0; i < array_size(cases); i++) {
		cleanup_buffer struct buffer out = {0};
		cleanup_free char *node = xasprintf("%s/node.pem", p->folder);
		struct error err;
		size_t added = 99;
		put(p, "node.pem", cases[i].node);
		if (cases[i].image)
			put(p, "etc/pki/tls/certs/ca-bundle.crt", cases[i].image);
		assert_int_equal(certificates_join(p->fd, node, &out, &added, &err), 0);
		assert_string_equal(out.data, cases[i].expected);
		assert_int_equal(added, cases[i].added);
	}
}

// Links of the image count from its root; what is no file is passed over.
static void reads_the_image_only(void **state)
{
	const struct place *p = *state;
	cleanup_free char *node = xasprintf("%s/node.pem", p->folder);
	struct error err;
	size_t added = 0;
	put(p, "node.pem", B);
	put(p, "secret.pem", A);
	put(p, "root/etc/ssl/certs/x", "");
	assert_int_equal(symlinkat(node, p->fd, "root/etc/ssl/certs/ca-certificates.crt"), 0);
	assert_int_equal(symlinkat("../../secret.pem", p->fd, "root/etc/ssl/ca-bundle.pem"), 0);
	assert_int_equal(mkfifoat(p->fd, "root/etc/ssl/cert.pem", 0600), 0);
	cleanup_fd int root = openat(p->fd, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_buffer struct buffer out = {0};
	assert_int_equal(certificates_join(root, node, &out, &added, &err), 0);
	assert_string_equal(out.data, B);
	assert_int_equal(added, 1);
}

static void finds_and_fails(void **state)
{
	const struct place *p = *state;
	cleanup_free char *node = xasprintf("%s/node.pem", p->folder);
	cleanup_buffer struct buffer out = {0};
	struct error err;
	size_t added = 7;
	put(p, "node.pem", A);
	setenv("SSL_CERT_FILE", node, 1);
	assert_string_equal(certificates_find(), node);
	setenv("SSL_CERT_FILE", "node.pem", 1); // not absolute: it means something else elsewhere
	const char *found = certificates_find();
	assert_true(!found || starts_with(found, "/etc/"));
	assert_int_equal(certificates_join(-1, "/nonexistent", &out, &added, &err), -1);
	assert_int_equal(err.kind, ERROR_NOT_FOUND);
	assert_true(starts_with(err.text, "the node's certificates: "));
	assert_int_equal(added, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(joins, set_up, tear_down),
		cmocka_unit_test_setup_teardown(reads_the_image_only, set_up, tear_down),
		cmocka_unit_test_setup_teardown(finds_and_fails, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
