// SPDX-License-Identifier: Apache-2.0
//
// How both sides, the run's folder and a folder as destination, are entered: one step below a held
// descriptor, along no link and into no other file system.
#include "agent/data/outputs_target.h"
#include "base/file.h"
#include "base/text.h"
#include "base/weaken.h"

#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { OPEN_TRIES = 8 };

int outputs_open_beneath(int root, const char *path, int flags)
{
	struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY),
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS |
			   RESOLVE_NO_XDEV};
	if (weakened("outputs-beneath"))
		return openat(root, path, flags | O_CLOEXEC);
	int fd = -1;
	for (int i = 0; i < OPEN_TRIES && fd < 0; i++) {
		fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
		if (fd < 0 && errno != EAGAIN && errno != EINTR)
			return -1;
	}
	return fd;
}

void outputs_parent_close(struct outputs_parent *p)
{
	if (p->path)
		close_fdp(&p->fd);
	free(p->path);
	*p = (struct outputs_parent){.fd = -1};
}

int outputs_parent_open(struct outputs_parent *p, int root, const char *path, const char **name)
{
	const char *last = path_base(path);
	size_t n = last == path ? 0 : (size_t)(last - path) - 1;
	*name = last;
	if (p->path && strlen(p->path) == n && memcmp(p->path, path, n) == 0)
		return p->fd;
	cleanup_free char *folder = n ? xstrndup(path, n) : xstrdup("");
	int fd = outputs_open_beneath(root, n ? folder : ".", O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return -1;
	outputs_parent_close(p);
	*p = (struct outputs_parent){.path = steal(folder), .fd = fd};
	return fd;
}

int outputs_make_beneath(int at, const char *name)
{
	if (mkdirat(at, name, 0755) < 0 && errno != EEXIST)
		return -1;
	return outputs_open_beneath(at, name, O_RDONLY | O_DIRECTORY);
}
