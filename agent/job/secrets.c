// SPDX-License-Identifier: Apache-2.0
#include "agent/job/secrets.h"

#include "agent/job/run.h"
#include "base/file.h"

#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

// Readable for any user of the container, whoever that will be; the folders above are closed to
// users of the node. noswap would keep the values off a swap disk; kernels before 6.4 lack it.
static int mount_memory(const char *path, struct error *err)
{
	static const char *const options[] = {"mode=0755,size=4m,noswap", "mode=0755,size=4m"};
	const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
	for (size_t i = 0; i < array_size(options); i++)
		if (mount("stoker", path, "tmpfs", flags, options[i]) == 0)
			return 0;
	return error_set_errno(err, errno, "mount memory for secrets");
}

static int write_secret(int folder, const struct job_secret *secret, struct error *err)
{
	cleanup_fd int fd =
		openat(folder, secret->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
	if (fd < 0)
		return error_set_errno(err, errno, "make the secret %s", secret->name);
	if (write_all(fd, secret->value, secret->size, secret->name, err) < 0)
		return -1;
	return fchmod(fd, 0444) < 0 ? error_set_errno(err, errno, "secret %s", secret->name) : 0;
}

int job_secrets_mount(
	struct store *s, const char *run_id, const struct job_spec *spec, struct error *err)
{
	cleanup_free char *path = xasprintf("%s/runs/%s/secrets", s->run_dir, run_id);
	cleanup_fd int run_folder = run_folder_make(s, run_id, err);
	if (run_folder < 0 || directory_make(run_folder, "secrets", 0755, err) < 0 ||
		mount_memory(path, err) < 0)
		return -1;
	cleanup_fd int folder = directory_open(run_folder, "secrets", err);
	if (folder < 0)
		return -1;
	for (size_t i = 0; i < spec->secret_count; i++)
		if (write_secret(folder, &spec->secrets[i], err) < 0)
			return -1;
	return 0;
}
