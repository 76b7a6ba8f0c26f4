// SPDX-License-Identifier: Apache-2.0
#include "agent/command/command.h"
#include "agent/device/device.h"
#include "base/json_write.h"
#include "base/text.h"

#include <stdio.h>

static const struct options_usage usage = {
	.verb = "devices",
	.arguments = "[release NAME]",
	.summary = "List the devices that CDI files describe, and who holds them.",
	.more = "A device that is still in use after its job is set aside. It comes back when it "
		"is\n"
		"free, or by \"release\", which takes what has it open now as belonging there.\n\n"
		"Examples:\n"
		"  stoker devices\n"
		"  stoker devices release nvidia.com/gpu=0",
	.most = 2,
};

static void print_table(const struct device_view *views, size_t count)
{
	int width = 6;
	for (size_t i = 0; i < count; i++) {
		int n = (int)strlen(views[i].name);
		width = n > width ? n : width;
	}
	if (count)
		printf("%-*s  %-9s  %s\n", width, "DEVICE", "STATE", "DETAILS");
	for (size_t i = 0; i < count; i++) {
		const struct device_view *v = &views[i];
		printf("%-*s  %-9s  ", width, v->name, device_status_name(v->status));
		if (v->status == DEVICE_HELD)
			printf("%s%s", v->run ? "by run " : "being released", v->run ? v->run : "");
		else if (v->reason && v->run)
			printf("after run %s: %s", v->run, v->reason);
		else if (v->reason)
			printf("%s", v->reason);
		else
			for (size_t k = 0; k < v->nodes.count; k++)
				printf("%s%s", k ? " " : "", v->nodes.items[k]);
		putchar('\n');
	}
}

static void write_warnings(struct json_writer *w, char *warnings)
{
	json_write_key(w, "warnings");
	json_write_open_array(w);
	for (char *line = warnings, *end; line && *line; line = end) {
		end = strchrnul(line, '\n');
		if (*end)
			*end++ = '\0';
		json_write_string(w, line);
	}
	json_write_close_array(w);
}

static int print_json(
	const struct device_view *views, size_t count, struct buffer *warnings, struct error *err)
{
	cleanup_json_writer struct json_writer *w = json_writer_new(true);
	cleanup_buffer struct buffer out = {0};
	json_write_open_object(w);
	json_write_key(w, "devices");
	json_write_open_array(w);
	for (size_t i = 0; i < count; i++) {
		const struct device_view *v = &views[i];
		json_write_open_object(w);
		json_write_member(w, "name", v->name);
		json_write_member_strings(w, "names", &v->names);
		json_write_member(w, "kind", v->kind);
		json_write_member_strings(w, "nodes", &v->nodes);
		json_write_member_bool(w, "gpu", v->gpu);
		json_write_member(w, "state", device_status_name(v->status));
		json_write_member(w, "run", v->run);
		json_write_member(w, "since", v->since);
		json_write_member(w, "reason", v->reason);
		json_write_close_object(w);
	}
	json_write_close_array(w);
	write_warnings(w, warnings->data);
	json_write_close_object(w);
	if (json_writer_finish(w, &out, err) < 0)
		return -1;
	fwrite(out.data, 1, out.size, stdout);
	return 0;
}

static int list(struct devices *devices, const char *folders, bool json, struct buffer *warnings,
	struct error *err)
{
	cleanup_arena struct arena a = {0};
	struct device_view *views;
	size_t count;
	if (device_list(devices, &a, &views, &count, err) < 0)
		return -1;
	if (json)
		return print_json(views, count, warnings, err);
	if (!count)
		printf("no CDI file describes a device; files are looked for in %s\n", folders);
	print_table(views, count);
	return 0;
}

int command_devices(struct command *c, int argc, char **argv, struct error *err)
{
	bool json = false;
	const struct option options[] = {
		{OPTION_FLAG, 0, "json", NULL, "for programs", &json},
		{OPTION_END},
	};
	char **rest;
	int count;
	int rc = command_options(c, options, &usage, false, argc, argv, &rest, &count, err);
	if (rc != OPTIONS_OK)
		return rc == OPTIONS_HELP ? 0 : -1;
	if (count && (count != 2 || !streq(rest[0], "release"))) {
		c->usage_error = true;
		return error_set(err, ERROR_INVALID,
			"expected \"devices\" or \"devices release NAME\"; see: stoker devices "
			"--help");
	}
	if (config_load(&c->config, &c->overrides, err) < 0)
		return -1;
	cleanup_buffer struct buffer warnings = {0};
	const struct json_strings *folders = &c->config.policy.cdi_folders;
	cleanup_cdi struct cdi *cdi = cdi_load(folders->items, folders->count, &warnings, err);
	if (!cdi)
		return -1;
	const struct device_places places = {
		.run_dir = c->config.run_dir, .state_dir = c->config.state_dir};
	cleanup_devices struct devices *devices = devices_new(cdi, &places);
	if (count)
		return devices_readmit(devices, rest[1], err);
	// JSON has them inside.
	if (warnings.size && !json)
		fputs(warnings.data, stderr);
	cleanup_buffer struct buffer names = {0};
	for (size_t i = 0; i < folders->count; i++)
		buffer_printf(&names, "%s%s", i ? ", " : "", folders->items[i]);
	return list(devices, names.size ? names.data : "no folder", json, &warnings, err);
}
