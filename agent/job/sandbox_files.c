// SPDX-License-Identifier: Apache-2.0
#include "agent/job/certificates.h"
#include "agent/job/sandbox_internal.h"
#include "agent/job/variables.h"
#include "base/file.h"

enum { NODE_FILE_MAX = 256 * 1024, FILES_MAX = 4 };

// A file that the node lacks is not given.
int sandbox_files_read(const char *path, struct buffer *b, struct error *err)
{
	if (file_read(AT_FDCWD, path, NODE_FILE_MAX, b, err) == 0)
		return 0;
	if (err->kind != ERROR_NOT_FOUND)
		return -1;
	error_clear(err);
	return 0;
}

static void add_file(struct sandbox *s, const char *path, const struct buffer *b)
{
	struct container_file *files = (struct container_file *)s->options.files;
	files[s->options.file_count++] = (struct container_file){
		.path = path,
		.data = arena_strndup(&s->arena, b->data ? b->data : "", b->size),
		.size = b->size,
		.mode = 0644,
	};
}

int sandbox_files_add(struct sandbox *s, struct error *err)
{
	cleanup_buffer struct buffer hosts = {0}, node = {0}, resolv = {0}, name = {0};
	s->options.files = arena_array(&s->arena, struct container_file, FILES_MAX);
	if (sandbox_files_read("/etc/hosts", &hosts, err) < 0 ||
		sandbox_files_read("/etc/resolv.conf", &node, err) < 0)
		return -1;
	if (s->private_network) {
		// The node's own names are for its loopback addresses: inside they are others'.
		buffer_clear(&hosts);
		buffer_printf(&hosts,
			"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
			"127.0.1.1\t%s\n",
			s->spec.hostname);
		network_resolv_conf(&s->network_plan, node.data ? node.data : "", &resolv);
	}
	add_file(s, "/etc/hosts", &hosts);
	add_file(s, "/etc/resolv.conf", s->private_network ? &resolv : &node);
	buffer_printf(&name, "%s\n", s->spec.hostname);
	add_file(s, "/etc/hostname", &name);
	return 0;
}

int sandbox_certificates_add(struct sandbox *s, int root_fd, struct error *err)
{
	cleanup_buffer struct buffer all = {0};
	const char *bundle = certificates_find();
	size_t added = 0;
	if (bundle && certificates_join(root_fd, bundle, &all, &added, err) < 0)
		return -1;
	if (!added)
		return 0;
	add_file(s, certificates_target, &all);
	job_variables_certificates(&s->arena, &s->spec.process.env);
	if (s->seen)
		s->seen->certificates = true;
	return 0;
}
