// SPDX-License-Identifier: Apache-2.0
//
// CVE-2019-5736: a dynamic loader that an image brings along. Its entry point is a script whose
// interpreter is /proc/self/exe: the runtime, in the container, becomes itself once more, linked by
// this. Prints which file that is and hands it, open, to the probe, which tries to write to it as
// soon as it no longer runs. No C library: nothing has been set up for one.
#include <fcntl.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/syscall.h>

// Before Linux 6.7 an interpreter's last page must be writable: the kernel clears what is behind
// the file's end in it, and kills the process where it cannot.
static int last_page __attribute__((used)) = 1;

static long call(long number, long a, long b, long c, long d)
{
#if defined(__x86_64__)
	long result;
	register long r10 __asm__("r10") = d;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
			 : "rcx", "r11", "memory");
	return result;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
	return x0;
#endif
}

static void say(const char *text)
{
	long size = 0;
	while (text[size])
		size++;
	call(SYS_write, 1, (long)text, size, 0);
}

static void say_number(const char *name, unsigned long number)
{
	char digits[24], *p = digits + sizeof(digits);
	*--p = '\0';
	do
		*--p = (char)('0' + number % 10);
	while (number /= 10);
	say(name);
	say(p);
	say("\n");
}

// NOLINTNEXTLINE(bugprone-reserved-identifier): what the linker looks for
void _start(void) __attribute__((noreturn, used));

__attribute__((force_align_arg_pointer)) void _start(void)
{
	static const char *const next[] = {"probe", "overwrite", "3", NULL};
	static const char *const nothing[] = {NULL};
	struct stat st = {0};
	say("loader runs\n");
	long fd = call(SYS_openat, AT_FDCWD, (long)"/proc/self/exe", O_RDONLY, 0);
	if (fd < 0 || call(SYS_fstat, fd, (long)&st, 0, 0) < 0) {
		say("no file\n");
		call(SYS_exit_group, 3, 0, 0, 0);
	}
	say_number("device ", st.st_dev);
	say_number("inode ", st.st_ino);
	call(SYS_dup3, fd, 3, 0, 0);
	call(SYS_execve, (long)"/probe", (long)next, (long)nothing, 0);
	call(SYS_exit_group, 4, 0, 0, 0);
	__builtin_unreachable();
}
