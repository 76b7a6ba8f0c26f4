// SPDX-License-Identifier: Apache-2.0
//
// Kind fsimage: an image in a file, mounted by the kernel; squashfs by squashfuse(1) where the
// kernel has none.
#include "agent/data/fsimage.h"

#include "agent/data/copy.h"
#include "agent/data/fuse_helper.h"
#include "base/file.h"
#include "base/text.h"
#include "oci/runtime/loop_device.h"

#include <stdio.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_image(struct data_mount *m, const struct data_options *o,
	enum data_failure *failure, struct error *err)
{
	if (!m->ready || !m->ready->kept)
		return bind_open(
			o->policy, m->source->path, O_RDONLY | O_NONBLOCK, &m->fd, failure, err);
	m->fd = openat(m->store->state_fd, m->ready->kept, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (m->fd < 0)
		return error_set_errno(err, errno, "%s", m->ready->kept);
	return file_lock(m->fd, LOCK_SH, m->ready->kept, err);
}

static const char *look(int fd, struct error *err)
{
	uint8_t head[FSIMAGE_HEAD] = {0};
	struct stat st;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		error_set(err, ERROR_INVALID, "the image is no regular file");
		return NULL;
	}
	if (pread(fd, head, sizeof(head), 0) < 0) {
		error_set_errno(err, errno, "read the image");
		return NULL;
	}
	return fsimage_type(head, (uint64_t)st.st_size, err);
}

// From a file (EROFS, Linux 6.12) or from a device. Returns the mount.
static int mount_from(const char *type, const char *source, struct error *err)
{
	cleanup_fd int fs = fsopen(type, FSOPEN_CLOEXEC);
	if (fs < 0)
		return error_set_errno(err, errno, "this kernel has no %s", type);
	if (fsconfig(fs, FSCONFIG_SET_STRING, "source", source, 0) < 0 ||
		fsconfig(fs, FSCONFIG_SET_FLAG, "ro", NULL, 0) < 0 ||
		fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return error_set_errno(err, errno, "the kernel cannot mount the %s image", type);
	int mounted = fsmount(
		fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
	return mounted < 0 ? error_set_errno(err, errno, "mount the %s image", type) : mounted;
}

static int mount_image(int fd, const char *type, struct error *err)
{
	char path[64], device[LOOP_PATH_SIZE];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (streq(type, "erofs")) {
		int mounted = mount_from(type, path, err);
		if (mounted >= 0 || err->sys == ENODEV || err->sys == EPERM)
			return mounted;
	}
	cleanup_fd int loop = loop_device_attach(fd, device, err);
	return loop < 0 ? -1 : mount_from(type, device, err);
}

// As nobody, who has the image open.
static int mount_by_helper(
	struct data_mount *m, int64_t deadline_ms, enum data_failure *failure, struct error *err)
{
	static const char *const argv[] = {"setpriv", "--reuid=65534", "--regid=65534",
		"--clear-groups", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all",
		"--pdeathsig=KILL", "--", "squashfuse", "-f", "/dev/fd/4", "/dev/fd/3", NULL};
	static const char *const envp[] = {"PATH=/usr/local/bin:/usr/bin:/bin", NULL};
	const struct fuse_plan plan = {.argv = (const char **)argv,
		.envp = (const char **)envp,
		.program = "squashfuse",
		.takes_fd = true};
	if (!fuse_is_installed("squashfuse"))
		return error_set(err, ERROR_SYSTEM,
			"this kernel has no squashfs; load its module (modprobe squashfs), install "
			"squashfuse, or use an EROFS image");
	return fuse_helper_run(m, &plan, m->fd, deadline_ms, failure, err);
}

static int fsimage_open(struct data_mount *m, const struct data_options *o, int64_t deadline_ms,
	enum data_failure *failure, struct error *err)
{
	*failure = DATA_POLICY;
	if (!o->policy->allow_fsimage)
		return error_set(err, ERROR_DENIED,
			"this node allows no file-system images (data.allow_fsimage in "
			"agent.yaml)");
	*failure = DATA_UNSUPPORTED;
	if (geteuid() != 0)
		return error_set(err, ERROR_DENIED,
			"only root can mount a file-system image; use kind oci or download");
	*failure = DATA_FAILED;
	if (open_image(m, o, failure, err) < 0)
		return -1;
	const char *type = look(m->fd, err);
	if (!type) {
		*failure = err->kind == ERROR_INVALID ? DATA_UNSUPPORTED : DATA_CHECKSUM;
		return -1;
	}
	cleanup_fd int mounted = mount_image(m->fd, type, err);
	*failure = err->sys == ENODEV ? DATA_UNSUPPORTED : DATA_FAILED;
	if (mounted < 0 && err->sys == ENODEV && streq(type, "squashfs"))
		return mount_by_helper(m, deadline_ms, failure, err);
	if (mounted < 0)
		return -1;
	if (move_mount(mounted, "", AT_FDCWD, m->path, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return error_set_errno(err, errno, "mount on %s", m->path);
	return mount_probe(m->path, true, deadline_ms, failure, err);
}

const struct mount_kind mount_fsimage = {.open = fsimage_open};
