// SPDX-License-Identifier: Apache-2.0
//
// The program: a table of verbs. Only here an error becomes text and an exit status: 0 done, 1 the
// operation failed, 2 the command line is wrong; `stoker run` gives the script's own status.
#include "agent/command/command.h"
#include "agent/data/http.h"
#include "agent/data/outputs.h"
#include "agent/data/unpack.h"
#include "agent/environment/proxy.h"
#include "agent/supervise/supervisor.h"
#include "base/process.h"
#include "base/text.h"
#include "oci/layer/tree_reader.h"
#include "oci/layer/worker.h"
#include "oci/registry/fetcher.h"
#include "oci/registry/pusher.h"

#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>

static const struct {
	const char *name;
	command_fn *run;
	const char *help;
} commands[] = {
	{"run", command_run, "run a job, or one command in an image"},
	{"validate", command_validate, "check a job file and show what would be run"},
	{"ps", command_ps, "list the runs that go on"},
	{"exec", command_exec, "run a command in the container of a run"},
	{"stats", command_stats, "show what runs use"},
	{"wait", command_wait, "wait until runs have ended"},
	{"stop", command_stop, "ask runs to end, then kill them"},
	{"kill", command_kill, "kill runs, or send them a signal"},
	{"rm", command_rm, "remove runs that have ended"},
	{"show", command_show, "show what became of a run, and why"},
	{"logs", command_logs, "show what a run printed, and follow it"},
	{"outputs", command_outputs, "copy a run's results to their destination, or show how far"},
	{"login", command_login, "remember a controller, and a token for it"},
	{"submit", command_submit, "send a job to the controller, and follow it"},
	{"runs", command_runs, "list the controller's runs"},
	{"cancel", command_cancel, "cancel runs at the controller"},
	{"download", command_download, "fetch a run's files from the controller"},
	{"nodes", command_nodes, "list the controller's nodes"},
	{"models", command_models, "name and fetch what runs have left at the controller"},
	{"join", command_join, "make this machine a node of a controller"},
	{"leave", command_leave, "undo join"},
	{"agent", command_agent, "serve the controller, in the foreground"},
	{"node", command_node, "show this node, and let it take no new runs"},
	{"pull", command_pull, "download an image"},
	{"images", command_images, "list the images here"},
	{"inspect", command_inspect, "show an image's digests, layers and configuration"},
	{"image", command_image, "mount an image to look inside, and unmount it"},
	{"rmi", command_rmi, "remove images"},
	{"prune", command_prune, "remove what nothing needs"},
	{"env", command_env, "list, share and remove environments"},
	{"devices", command_devices, "list GPUs and other devices, and who holds them"},
	{"runtime", command_runtime, "the command line of an OCI runtime, for container engines"},
};

// Started by ourselves, never by people; they speak over descriptor 3 (process.h).
static const struct {
	const char *name;
	int (*run)(void);
} helpers[] = {
	{"fetcher", fetcher_main},
	{"pusher", pusher_main},
	{"layer", layer_worker_main},
	{"outputs", outputs_main},
	{"data", data_http_main},
	{"unpack", unpack_main},
	{"supervisor", supervisor_main},
	{"tree", tree_reader_main},
	{"packages", package_proxy_main},
};

// People may start the verb of the same name.
static bool is_helper(char **argv, const char *name)
{
	bool verb = false;
	for (size_t i = 0; i < array_size(commands); i++)
		verb |= streq(name, commands[i].name);
	return streq(argv[1], name) && (!verb || streq(argv[0], "stoker:"));
}

static void print_help(void)
{
	printf("Usage: stoker [--config FILE] [--state-dir DIR] [--run-dir DIR] VERB …\n\n"
	       "Turns this machine into a compute target for jobs in container "
	       "images.\n\nVerbs:\n");
	for (size_t i = 0; i < array_size(commands); i++)
		printf("  %-10s %s\n", commands[i].name, commands[i].help);
	printf("\n`stoker VERB --help` shows a verb's options.\n");
}

static int run_command(struct command *c, int argc, char **argv, struct error *err)
{
	if (argc < 1) {
		c->usage_error = true;
		return error_set(err, ERROR_INVALID, "a verb is missing; see: stoker --help");
	}
	for (size_t i = 0; i < array_size(commands); i++)
		if (streq(argv[0], commands[i].name))
			return commands[i].run(c, argc, argv, err);
	c->usage_error = true;
	return error_set(
		err, ERROR_INVALID, "there is no verb \"%s\"; see: stoker --help", argv[0]);
}

// An image of 500 layers needs three descriptors for each; the usual soft limit is 1024, kept low
// for programs that use select(2). Jobs get limits of their own.
static void raise_descriptor_limit(void)
{
	struct rlimit r;
	if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
}

// Engines are told one program to call: a link to this one.
static bool is_runtime(const char *name)
{
	return ends_with(name, "stoker-oci") || ends_with(name, "stoker-runtime");
}

static bool has_word(int argc, char **argv, const char *word)
{
	for (int i = 1; i < argc; i++)
		if (streq(argv[i], word))
			return true;
	return false;
}

// What becomes a process of a container is a copy from the start; and a container has the limits
// that its engine has, not ours.
static int begin(int argc, char **argv, struct error *err)
{
	if (!is_runtime(argv[0]) && !has_word(argc, argv, "runtime")) {
		raise_descriptor_limit();
		return 0;
	}
	if (has_word(argc, argv, "create") || has_word(argc, argv, "run") ||
		has_word(argc, argv, "exec")) {
		if (process_become_sealed(argv, err) < 0)
			return -1;
		prctl(PR_SET_NAME, "stoker-runtime");
	}
	return 0;
}

static int finish(struct command *c, int rc, struct error *err)
{
	store_free(c->store);
	config_release(&c->config);
	if (rc >= 0 && fflush(stdout) == 0)
		return rc;
	if (rc >= 0)
		error_set_errno(err, errno, "standard output");
	fprintf(stderr, "stoker: %s\n", err->text);
	return c->usage_error ? 2 : 1;
}

int main(int argc, char **argv)
{
	// A third word only tells people, in the list of processes, what it is about.
	for (size_t i = 0; (argc == 2 || argc == 3) && i < array_size(helpers); i++) {
		if (is_helper(argv, helpers[i].name)) {
			// The kernel has named us after the file in memory.
			char name[16];
			snprintf(name, sizeof(name), "stoker-%.8s", helpers[i].name);
			prctl(PR_SET_NAME, name);
			return helpers[i].run();
		}
	}

	struct command c = {0};
	struct error err = {0};
	bool version = false;
	if (begin(argc, argv, &err) < 0)
		return finish(&c, -1, &err);
	if (is_runtime(argv[0]))
		return finish(&c, command_runtime(&c, argc, argv, &err), &err);
	const struct option options[] = {
		{OPTION_STRING, 0, "config", "FILE", "", &c.overrides.config},
		{OPTION_STRING, 0, "state-dir", "DIR", "", &c.overrides.state_dir},
		{OPTION_STRING, 0, "run-dir", "DIR", "", &c.overrides.run_dir},
		{OPTION_FLAG, 0, "version", NULL, "", &version},
		{OPTION_END},
	};
	const struct options_usage usage = {
		.verb = "", .arguments = "VERB", .help = print_help, .most = -1};
	char **rest;
	int count, rc;
	rc = options_parse(options, &usage, true, argc, argv, &rest, &count, &err);
	c.usage_error = rc < 0;
	if (rc == OPTIONS_HELP)
		return 0;
	if (rc == OPTIONS_OK && version) {
		printf("stoker %s\n", STOKER_VERSION);
		return 0;
	}
	if (rc == OPTIONS_OK)
		rc = run_command(&c, count, rest, &err);
	return finish(&c, rc, &err);
}
