// SPDX-License-Identifier: Apache-2.0
//
// What pip has installed is compiled to bytecode in a step of its own: pip would compile one file
// after the other, which takes longer than all else it does.
#include "agent/environment/build.h"
#include "base/text.h"

enum { PROCESSES_MAX = 8 }; // each takes memory of the build's, 100 MB where a source is large

// For Python 3.4 and later. Not compileall, whose processes need semaphores, and so a /dev/shm.
// What a process has compiled before can show in the bytes of what it compiles next (marshal's
// FLAG_REF: which strings are interned already), so each batch is compiled by a fork of one and the
// same state: the result depends neither on how many processes there are nor on which is first. A
// file that does not compile is no failure, as it is none for pip; a process that dies is one.
static const char program[] =
	"import glob, os, py_compile, sys\n"
	"prefix, limit, mark = sys.argv[1], int(sys.argv[2]), sys.argv[3]\n"
	"since = os.stat(mark).st_ctime_ns if mark else -1\n"
	"sources = []\n"
	"for top in sorted(glob.glob(prefix + '/lib/*/site-packages')):\n"
	"    for folder, _, names in os.walk(top):\n"
	"        sources += [os.path.join(folder, n) for n in names if n.endswith('.py')]\n"
	"sources.sort()\n"
	"def run(batch):\n"
	"    for path in batch:\n"
	"        try:\n"
	"            if os.stat(path).st_ctime_ns > since:\n"
	"                py_compile.compile(path, doraise=True)\n"
	"        except Exception:\n"
	"            pass\n"
	"free = min(limit, len(os.sched_getaffinity(0)))\n"
	"failed = 0\n"
	"for i in range(0, len(sources), 32):\n"
	"    if not free:\n"
	"        failed |= os.wait()[1]\n"
	"        free += 1\n"
	"    if not os.fork():\n"
	"        run(sources[i:i + 32])\n"
	"        os._exit(0)\n"
	"    free -= 1\n"
	"try:\n"
	"    while True:\n"
	"        failed |= os.wait()[1]\n"
	"except ChildProcessError:\n"
	"    sys.exit('a process that compiled has died' if failed else 0)\n";

static unsigned processes(const struct build *b)
{
	const struct config *config = b->o->config;
	double cpus = config->environments.cpus ? config->environments.cpus : config->policy.cpus;
	if (cpus <= 0 || cpus >= PROCESSES_MAX)
		return PROCESSES_MAX;
	return (unsigned)cpus + ((unsigned)cpus < cpus);
}

int build_bytecode(struct build *b, struct error *err)
{
	struct step_result result;
	static const char python[] = ENVIRONMENT_PYTHON, prefix[] = ENVIRONMENT_PREFIX,
			  mark[] = BUILD_TMP "/" BUILD_MARK;
	// -S: no package's code has run in what compiles. Conda's packages are older than the mark.
	const char *argv[] = {python, "-s", "-S", "-W", "ignore", "-c", program, prefix,
		arena_printf(b->arena, "%u", processes(b)), b->request->has_conda ? mark : "",
		NULL};
	const struct json_strings command = {argv, array_size(argv) - 1};
	if (build_tool(b, "compile to bytecode", &command, NULL, classify_pip, &result, err) < 0)
		return -1;
	step_result_release(&result);
	return 0;
}
