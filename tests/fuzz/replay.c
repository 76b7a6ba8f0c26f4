// SPDX-License-Identifier: Apache-2.0
// The ordinary main() of a fuzz target: runs every file of the given corpus folders through it
// once.
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void replay_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	if (!f) {
		perror(path);
		exit(1);
	}
	size_t size = 0, capacity = 1 << 16;
	uint8_t *data = malloc(capacity);
	for (size_t n; data && (n = fread(data + size, 1, capacity - size, f)) > 0;) {
		size += n;
		if (size == capacity)
			data = realloc(data, capacity *= 2);
	}
	fclose(f);
	if (!data)
		abort();
	// A copy of the exact size, so that AddressSanitizer sees a read one byte past the end.
	uint8_t *exact = malloc(size ? size : 1);
	if (!exact)
		abort();
	for (size_t i = 0; i < size; i++)
		exact[i] = data[i];
	LLVMFuzzerTestOneInput(exact, size);
	free(exact);
	free(data);
}

int main(int argc, char **argv)
{
	int count = 0;
	for (int i = 1; i < argc; i++) {
		DIR *d = opendir(argv[i]);
		if (!d) {
			perror(argv[i]);
			return 1;
		}
		for (struct dirent *e; (e = readdir(d));) {
			char path[4096];
			if (e->d_name[0] == '.')
				continue;
			snprintf(path, sizeof(path), "%s/%s", argv[i], e->d_name);
			replay_file(path);
			count++;
		}
		closedir(d);
	}
	printf("%d inputs\n", count);
	return count ? 0 : 1; // an empty corpus is a test that cannot fail
}
