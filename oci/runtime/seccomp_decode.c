// SPDX-License-Identifier: Apache-2.0
#include "oci/runtime/seccomp_decode.h"

#include "base/text.h"

#include <linux/seccomp.h>

enum { ARGUMENTS = 6, ERRNO_MAX = 4095, TRACE_MAX = 0xffff, ARCH_NAME_MAX = 32 };

static int check_errno(
	const struct seccomp_action *a, unsigned most, uint32_t *data, struct error *err)
{
	*data = a->has_errno ? a->errno_value : EPERM;
	if (*data > most)
		return error_set(err, ERROR_INVALID, "%s.%s: %u is more than %u", a->place,
			a->errno_member, *data, most);
	return 0;
}

int seccomp_decode_action(const struct seccomp_action *a, uint32_t *action, struct error *err)
{
	static const struct {
		const char *name;
		uint32_t action;
	} plain[] = {
		{"SCMP_ACT_ALLOW", SCMP_ACT_ALLOW},
		{"SCMP_ACT_KILL", SCMP_ACT_KILL_THREAD},
		{"SCMP_ACT_KILL_THREAD", SCMP_ACT_KILL_THREAD},
		{"SCMP_ACT_KILL_PROCESS", SCMP_ACT_KILL_PROCESS},
		{"SCMP_ACT_TRAP", SCMP_ACT_TRAP},
		{"SCMP_ACT_LOG", SCMP_ACT_LOG},
	};
	uint32_t data;
	if (!a->name)
		return error_set(err, ERROR_INVALID, "%s.%s: is missing", a->place, a->member);
	if (streq(a->name, "SCMP_ACT_ERRNO")) {
		if (check_errno(a, ERRNO_MAX, &data, err) < 0)
			return -1;
		*action = SCMP_ACT_ERRNO(data);
		return 0;
	}
	if (streq(a->name, "SCMP_ACT_TRACE")) {
		if (check_errno(a, TRACE_MAX, &data, err) < 0)
			return -1;
		*action = SCMP_ACT_TRACE(data);
		return 0;
	}
	if (streq(a->name, "SCMP_ACT_NOTIFY"))
		return error_set(err, ERROR_INVALID, "%s.%s: SCMP_ACT_NOTIFY is not supported",
			a->place, a->member);
	for (size_t i = 0; i < array_size(plain); i++) {
		if (!streq(a->name, plain[i].name))
			continue;
		if (a->has_errno)
			return error_set(err, ERROR_INVALID, "%s.%s: %s has no error number",
				a->place, a->errno_member, a->name);
		*action = plain[i].action;
		return 0;
	}
	return error_set(
		err, ERROR_INVALID, "%s.%s: unknown action %s", a->place, a->member, a->name);
}

int seccomp_decode_flags(const struct json_strings *names, unsigned *flags, struct error *err)
{
	static const struct {
		const char *name;
		unsigned flag;
	} known[] = {
		{"SECCOMP_FILTER_FLAG_TSYNC", SECCOMP_FILTER_FLAG_TSYNC},
		{"SECCOMP_FILTER_FLAG_LOG", SECCOMP_FILTER_FLAG_LOG},
		{"SECCOMP_FILTER_FLAG_SPEC_ALLOW", SECCOMP_FILTER_FLAG_SPEC_ALLOW},
		// Says how a listener is waited for; the kernel refuses it where there is none.
		{"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", 0},
	};
	for (size_t i = 0; i < names->count; i++) {
		size_t k = 0;
		while (k < array_size(known) && !streq(names->items[i], known[k].name))
			k++;
		if (k == array_size(known))
			return error_set(err, ERROR_INVALID,
				"linux.seccomp.flags[%zu]: unknown flag %s", i, names->items[i]);
		*flags |= known[k].flag;
	}
	return 0;
}

// "SCMP_ARCH_X86_64" is libseccomp's "x86_64".
uint32_t seccomp_decode_architecture(const char *name)
{
	static const char prefix[] = "SCMP_ARCH_";
	char lower[ARCH_NAME_MAX];
	size_t n = 0;
	if (!starts_with(name, prefix))
		return 0;
	for (name += strlen(prefix); *name && n < sizeof(lower) - 1; name++, n++) {
		if (*name >= 'a' && *name <= 'z')
			return 0;
		lower[n] = *name >= 'A' && *name <= 'Z' ? (char)(*name - 'A' + 'a') : *name;
	}
	lower[n] = '\0';
	return streq(lower, "native") ? 0 : seccomp_arch_resolve_name(lower);
}

int seccomp_decode_argument(const char *place, const struct runtime_seccomp_argument *argument,
	struct scmp_arg_cmp *condition, struct error *err)
{
	static const struct {
		const char *name;
		enum scmp_compare op;
	} operators[] = {
		{"SCMP_CMP_NE", SCMP_CMP_NE},
		{"SCMP_CMP_LT", SCMP_CMP_LT},
		{"SCMP_CMP_LE", SCMP_CMP_LE},
		{"SCMP_CMP_EQ", SCMP_CMP_EQ},
		{"SCMP_CMP_GE", SCMP_CMP_GE},
		{"SCMP_CMP_GT", SCMP_CMP_GT},
		{"SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ},
	};
	if (argument->index >= ARGUMENTS)
		return error_set(err, ERROR_INVALID,
			"%s.index: a system call has %d arguments, there is no %u", place,
			ARGUMENTS, argument->index);
	if (!argument->op)
		return error_set(err, ERROR_INVALID, "%s.op: is missing", place);
	for (size_t i = 0; i < array_size(operators); i++) {
		if (!streq(argument->op, operators[i].name))
			continue;
		*condition = (struct scmp_arg_cmp){
			argument->index, operators[i].op, argument->value, argument->value_two};
		return 0;
	}
	return error_set(err, ERROR_INVALID, "%s.op: unknown operator %s", place, argument->op);
}
