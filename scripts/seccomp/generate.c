// SPDX-License-Identifier: Apache-2.0
//
// Runs while Stoker is built: compiles the default profiles for the capability sets that jobs have
// and prints them as C (oci/runtime/seccomp_ready.h).
#include "oci/runtime/seccomp.h"
#include "oci/runtime/seccomp_ready.h"

#include <linux/capability.h>
#include <linux/filter.h>
#include <stdio.h>

// Of all the capabilities of a job, these are those that the profile asks about.
static const uint64_t sets[] = {
	UINT64_C(1) << CAP_SYS_CHROOT, // root
	0,			       // another user
};

enum { PER_LINE = 4 };

static void print_program(size_t number, const struct seccomp_program *program)
{
	const struct sock_filter *f = program->filter;
	printf("static const struct sock_filter filter_%zu[] = {", number);
	for (size_t i = 0; i < program->size / sizeof(*f); i++)
		printf("%s{0x%x, %u, %u, 0x%x},", i % PER_LINE ? " " : "\n\t", f[i].code, f[i].jt,
			f[i].jf, f[i].k);
	printf("\n};\n");
}

int main(void)
{
	cleanup_arena struct arena a = {0};
	uint64_t fingerprints[array_size(sets)];
	printf("// Made by scripts/seccomp/generate.c.\n"
	       "#include \"oci/runtime/seccomp_ready.h\"\n\n"
	       "#include <linux/filter.h>\n\n");
	for (size_t i = 0; i < array_size(sets); i++) {
		struct runtime_seccomp profile;
		struct seccomp_program program;
		struct error err;
		seccomp_default_profile(&a, sets[i], &profile);
		if (seccomp_compile(&a, &profile, &program, &err) < 0) {
			fprintf(stderr, "seccomp_generate: %s\n", err.text);
			return 1;
		}
		fingerprints[i] = seccomp_fingerprint(&profile);
		print_program(i, &program);
	}
	printf("const struct seccomp_ready seccomp_ready[] = {\n");
	for (size_t i = 0; i < array_size(sets); i++)
		printf("\t{UINT64_C(0x%llx), filter_%zu, sizeof(filter_%zu)},\n",
			(unsigned long long)fingerprints[i], i, i);
	printf("};\nconst size_t seccomp_ready_count = %zu;\n", array_size(sets));
	return fflush(stdout) == 0 ? 0 : 1;
}
