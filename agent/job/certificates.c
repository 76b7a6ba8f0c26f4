// SPDX-License-Identifier: Apache-2.0
#include "agent/job/certificates.h"

#include "base/file.h"
#include "base/text.h"

#include <linux/openat2.h>
#include <sys/stat.h>
#include <unistd.h>

const char certificates_target[] = "/stoker/ca-certificates.crt";

const char *const certificates_variables[] = {"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE",
	"CURL_CA_BUNDLE", "PIP_CERT", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO", "AWS_CA_BUNDLE",
	NULL};

enum { BUNDLE_BYTES_MAX = 16 * 1024 * 1024 };

// Debian, Alpine, Arch; Fedora; openSUSE; Fedora again, where the second is only a link
static const char *const places[] = {"/etc/ssl/certs/ca-certificates.crt",
	"/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem"};

const char *certificates_find(void)
{
	const char *own = getenv("SSL_CERT_FILE");
	if (own && *own == '/' && access(own, R_OK) == 0)
		return own;
	for (size_t i = 0; i < array_size(places); i++)
		if (access(places[i], R_OK) == 0)
			return places[i];
	return NULL;
}

static const char begin[] = "-----BEGIN CERTIFICATE-----", end[] = "-----END CERTIFICATE-----";

struct certificate {
	const char *text;
	size_t size;
};

// The next one at or behind `text`, from its first line to its last; false: there is none.
static bool next_certificate(const char *text, struct certificate *c)
{
	const char *from = strstr(text, begin);
	const char *to = from ? strstr(from, end) : NULL;
	if (!to)
		return false;
	*c = (struct certificate){from, (size_t)(to - from) + strlen(end)};
	return true;
}

static size_t count_certificates(const char *text)
{
	struct certificate c;
	size_t count = 0;
	for (; next_certificate(text, &c); text = c.text + c.size)
		count++;
	return count;
}

static int compare(const void *a, const void *b)
{
	const struct certificate *x = a, *y = b;
	size_t n = x->size < y->size ? x->size : y->size;
	int order = memcmp(x->text, y->text, n);
	return order ? order : (x->size > y->size) - (x->size < y->size);
}

// Every tool writes the lines 64 characters long, so the same certificate is the same text. If one
// does not, it is there twice, which does no harm.
static struct certificate *list_certificates(const char *text, size_t *count)
{
	size_t n = count_certificates(text);
	struct certificate *list = xcalloc(n + 1, sizeof(*list));
	for (size_t i = 0; i < n && next_certificate(text, &list[i]); i++)
		text = list[i].text + list[i].size;
	*count = n;
	return list;
}

static void append(struct buffer *out, const struct certificate *c)
{
	buffer_append(out, c->text, c->size);
	buffer_putc(out, '\n');
}

// The first of the places that the image has. Its links count from its root.
static void read_image(int root_fd, struct buffer *b)
{
	for (size_t i = 0; root_fd >= 0 && i < array_size(places) && b->size == 0; i++) {
		struct error ignored;
		struct stat st;
		// O_NONBLOCK: the image may have a FIFO there, and nobody would ever write into it.
		cleanup_fd int fd = file_open_beneath(root_fd, places[i],
			O_RDONLY | O_NOCTTY | O_NONBLOCK, 0, RESOLVE_IN_ROOT, &ignored);
		if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
			continue;
		if (file_read_fd(fd, places[i], BUNDLE_BYTES_MAX, b, &ignored) < 0)
			buffer_clear(b);
	}
}

int certificates_join(
	int root_fd, const char *path, struct buffer *out, size_t *added, struct error *err)
{
	cleanup_buffer struct buffer image = {0}, node = {0};
	if (file_read(AT_FDCWD, path, BUNDLE_BYTES_MAX, &node, err) < 0)
		return error_context(err, "the node's certificates");
	read_image(root_fd, &image);
	size_t have = 0, count = 0, more = 0;
	cleanup_free struct certificate *had =
		list_certificates(image.data ? image.data : "", &have);
	cleanup_free struct certificate *list =
		list_certificates(node.data ? node.data : "", &count);
	for (size_t i = 0; i < have; i++)
		append(out, &had[i]);
	qsort(had, have, sizeof(*had), compare);
	for (size_t i = 0; i < count; i++) {
		if (bsearch(&list[i], had, have, sizeof(*had), compare))
			continue;
		append(out, &list[i]);
		more++;
	}
	*added = more;
	return 0;
}
