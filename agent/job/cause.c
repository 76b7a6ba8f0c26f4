// SPDX-License-Identifier: Apache-2.0
#include "agent/job/cause.h"

#include "base/memory.h"
#include "base/process.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

struct rule {
	enum error_kind kind;
	enum cause_class class;
	const char *code;
};

// What is not listed is the node's: NodeLimit for ERROR_LIMIT, else NodeError.
static const struct rule checking[] = {
	{ERROR_NOT_FOUND, CAUSE_USER, "FileNotFound"},
	{ERROR_INVALID, CAUSE_USER, "InvalidJob"},
	{ERROR_DENIED, CAUSE_USER, "FileDenied"},
	{ERROR_LIMIT, CAUSE_USER, "InvalidJob"},
	{0},
};
static const struct rule pulling[] = {
	{ERROR_NOT_FOUND, CAUSE_USER, "ImageNotFound"},
	{ERROR_DENIED, CAUSE_USER, "RegistryDenied"},
	{ERROR_INVALID, CAUSE_USER, "ImageInvalid"},
	{ERROR_INTEGRITY, CAUSE_INFRASTRUCTURE, "ImageCorrupt"},
	{ERROR_UNAVAILABLE, CAUSE_INFRASTRUCTURE, "RegistryUnavailable"},
	{0},
};
static const struct rule preparing[] = {
	{ERROR_INVALID, CAUSE_USER, "InvalidJob"},
	{ERROR_NOT_FOUND, CAUSE_USER, "FileNotFound"},
	{ERROR_INTEGRITY, CAUSE_INFRASTRUCTURE, "ImageCorrupt"},
	{ERROR_DENIED, CAUSE_USER, "NotAllowed"},
	{ERROR_UNAVAILABLE, CAUSE_SYSTEM, "DeviceBusy"},
	{0},
};
static const struct rule starting[] = {
	{ERROR_NOT_FOUND, CAUSE_USER, "ProgramNotFound"},
	{ERROR_DENIED, CAUSE_USER, "ProgramDenied"},
	{ERROR_INVALID, CAUSE_USER, "InvalidJob"},
	{0},
};
static const struct rule running[] = {{0}};
static const struct rule *const rules[] = {checking, pulling, preparing, starting, running};

struct cause cause_of_error(enum cause_phase phase, const struct error *err)
{
	struct cause c = {
		.class = CAUSE_SYSTEM,
		.code = err->kind == ERROR_LIMIT ? "NodeLimit" : "NodeError",
		.exit_code = -1,
	};
	for (const struct rule *r = rules[phase]; r->code; r++) {
		if (r->kind == err->kind) {
			c.class = r->class;
			c.code = r->code;
		}
	}
	memcpy(c.message, err->text, sizeof(c.message));
	return c;
}

struct cause cause_of_data(enum data_failure failure, const struct error *err)
{
	struct cause c = {.class = CAUSE_USER, .code = data_failure_name(failure), .exit_code = -1};
	if (failure == DATA_NO_SPACE || failure == DATA_UNSUPPORTED || failure == DATA_FAILED)
		c.class = CAUSE_SYSTEM;
	else if (data_failure_is_passing(failure))
		c.class = CAUSE_INFRASTRUCTURE;
	memcpy(c.message, err->text, sizeof(c.message));
	return c;
}

static void add_status(struct cause *c, int status)
{
	c->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	c->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

struct cause cause_of_lost_input(const struct cause *lost, int status)
{
	char how[64];
	struct cause c = *lost;
	add_status(&c, status);
	snprintf(c.message, sizeof(c.message), "%.170s; the script %s", lost->message,
		process_describe_status(status, how));
	return c;
}

struct cause cause_of_status(int status)
{
	char text[64];
	struct cause c = {.class = CAUSE_USER};
	add_status(&c, status);
	c.code = c.signal ? "ScriptKilled" : "ScriptExited";
	snprintf(c.message, sizeof(c.message), "the script %s",
		process_describe_status(status, text));
	return c;
}

struct cause cause_out_of_memory(uint64_t kills, uint64_t limit, int status)
{
	char how[64], size[FORMAT_SIZE_MAX], over[64] = "";
	struct cause c = {.class = CAUSE_USER, .code = "OutOfMemory"};
	add_status(&c, status);
	if (limit)
		snprintf(over, sizeof(over), " over its limit of %s", format_size(limit, size));
	snprintf(c.message, sizeof(c.message),
		"out of memory: the kernel killed %llu of its processes%s; the script %s",
		(unsigned long long)kills, over, process_describe_status(status, how));
	return c;
}

struct cause cause_of_stop(enum cause_stop stop, int signo, const char *detail, int status)
{
	static const struct {
		enum cause_class class;
		const char *code, *text;
	} stops[] = {
		[STOP_SIGNAL] = {CAUSE_USER, "Canceled", "canceled by signal"},
		[STOP_REQUEST] = {CAUSE_USER, "Canceled", "canceled by stoker stop"},
		[STOP_KILL] = {CAUSE_USER, "Canceled", "canceled by stoker kill"},
		[STOP_DEADLINE] = {CAUSE_USER, "DeadlineExceeded", "ran for too long"},
		[STOP_DISK_LIMIT] = {CAUSE_USER, "DiskLimit", "wrote too much"},
		[STOP_DISK_FULL] = {CAUSE_SYSTEM, "DiskFull", "the node's disk is full"},
	};
	char how[64], number[64] = "";
	const char *name = sigdescr_np(signo);
	struct cause c = {.class = stops[stop].class, .code = stops[stop].code};
	add_status(&c, status);
	if (stop == STOP_SIGNAL)
		snprintf(number, sizeof(number), " %d (%s)", signo, name ? name : "unknown");
	snprintf(c.message, sizeof(c.message), "%s%s%s%s; the script %s", stops[stop].text, number,
		*detail ? ": " : "", detail, process_describe_status(status, how));
	return c;
}

struct cause cause_canceled_early(int signo)
{
	const char *name = sigdescr_np(signo);
	struct cause c = {.class = CAUSE_USER, .code = "Canceled", .exit_code = -1};
	snprintf(c.message, sizeof(c.message),
		"canceled by signal %d (%s) before the script was started", signo,
		name ? name : "unknown");
	return c;
}

bool cause_is_retried(const struct cause *c)
{
	static const char *const again[] = {"ScriptExited", "ScriptKilled", "OutOfMemory"};
	// The shell's words for a command that cannot be run, and that is not there.
	if (c->exit_code == 126 || c->exit_code == 127)
		return false;
	if (c->class != CAUSE_USER)
		return true;
	for (size_t i = 0; i < array_size(again); i++)
		if (streq(c->code, again[i]))
			return true;
	return false;
}

const char *cause_class_name(enum cause_class class)
{
	static const char *const names[] = {"user", "system", "infrastructure"};
	return names[class];
}
