// SPDX-License-Identifier: Apache-2.0
//
// device_driver [--wait MS] [--timeout MS] [--abandon] CDI_FOLDER RUN_DIR STATE_DIR RUN GPUS
// [NAME…]: acquires devices as a job's supervisor does and prints "got NAME …", holds them until
// its standard input ends, and releases them ("released", or "aside …"). While it waits it prints
// "waiting: …"; refused it prints "refused KIND: …". One request a line may follow on standard
// input, "GPUS\n": then those it has are released and that many are asked for.
#include "agent/device/device.h"
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>

struct driver {
	struct devices *devices;
	const char *run;
	uint64_t wait_ms, timeout_ms;
	const char *const *named;
	size_t named_count;
};

static void waiting(void *data, const char *reason)
{
	(void)data;
	printf("waiting: %s\n", reason);
	fflush(stdout);
}

static struct device_lease *acquire(const struct driver *d, uint64_t gpus)
{
	struct error err = {0};
	const struct device_request r = {.gpus = (unsigned)gpus,
		.named = d->named,
		.named_count = d->named_count,
		.run = d->run,
		.wait_ms = (int64_t)d->wait_ms,
		.waiting = waiting};
	struct device_lease *l = device_acquire(d->devices, &r, &err);
	size_t count = 0;
	if (!l) {
		printf("refused %s: %s\n", error_kind_name(err.kind), err.text);
		return NULL;
	}
	const struct cdi_device *const *devices = device_lease_devices(l, &count);
	printf("got");
	for (size_t i = 0; i < count; i++)
		printf(" %s", devices[i]->name);
	printf("\n");
	return l;
}

static void release(const struct driver *d, struct device_lease *l)
{
	cleanup_buffer struct buffer reasons = {0};
	struct error err = {0};
	int rc = device_release(l, (int)d->timeout_ms, &reasons, &err);
	if (rc < 0)
		printf("failed: %s\n", err.text);
	else if (rc)
		printf("aside %s", reasons.data);
	else
		printf("released\n");
}

static int serve(const struct driver *d, uint64_t gpus, bool abandon)
{
	char line[64];
	for (;;) {
		struct device_lease *l = acquire(d, gpus);
		fflush(stdout);
		char *next = fgets(line, sizeof(line), stdin);
		if (abandon)
			device_lease_free(l);
		else if (l)
			release(d, l);
		fflush(stdout);
		if (!next)
			return 0;
		line[strcspn(line, "\n")] = '\0';
		if (!parse_u64(line, &gpus))
			return 2;
	}
}

int main(int argc, char **argv)
{
	struct driver d = {0};
	cleanup_buffer struct buffer warnings = {0};
	struct error err = {0};
	bool abandon = false;
	uint64_t gpus;
	int i = 1;
	for (; i < argc && starts_with(argv[i], "--"); i++) {
		if (streq(argv[i], "--abandon"))
			abandon = true;
		else if (i + 1 == argc ||
			 !parse_u64(argv[i + 1],
				 streq(argv[i], "--wait") ? &d.wait_ms : &d.timeout_ms))
			return 2;
		else
			i++;
	}
	if (argc - i < 5 || !parse_u64(argv[i + 4], &gpus))
		return 2;
	const char *folders[] = {argv[i]};
	const struct device_places places = {.run_dir = argv[i + 1],
		.state_dir = argv[i + 2],
		.nvml_library = getenv("DEVICE_DRIVER_NVML")};
	cleanup_cdi struct cdi *cdi = cdi_load(folders, 1, &warnings, &err);
	if (!cdi) {
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	cleanup_devices struct devices *devices = devices_new(cdi, &places);
	d.devices = devices;
	d.run = argv[i + 3];
	d.named = (const char *const *)argv + i + 5;
	d.named_count = (size_t)(argc - i - 5);
	return serve(&d, gpus, abandon);
}
