// SPDX-License-Identifier: Apache-2.0
#include "agent/command/progress.h"

#include "agent/command/phase_line.h"
#include "base/buffer.h"
#include "base/file.h"
#include "base/loop.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { BAR_WIDTH = 24, RATE_MS = 200 };

static const char *phase_name(enum pull_phase phase)
{
	static const char *const names[] = {
		[PULL_RESOLVING] = "resolving",
		[PULL_WAITING] = "waiting",
		[PULL_FETCHING] = "pulling",
		[PULL_CONVERTING] = "converting",
		[PULL_DONE] = "done",
		[PULL_PRESENT] = "present",
	};
	return names[phase];
}

void progress_init(struct progress *p, const struct oci_reference *reference)
{
	*p = (struct progress){.terminal = phase_line_is_live(), .started = now_ms()};
	oci_reference_familiar(reference, p->name);
}

void progress_release(struct progress *p)
{
	free(p->phases);
	p->phases = NULL;
}

// A layer is as far as its conversion, which follows the download closely.
static uint64_t layer_bytes(const struct pull_layer_progress *l)
{
	if (l->phase == PULL_DONE || l->phase == PULL_PRESENT)
		return l->size;
	return l->consumed < l->fetched ? (l->consumed + l->fetched) / 2 : l->fetched;
}

void progress_format_layer(
	char *line, size_t size, const struct pull_layer_progress *layer, int width)
{
	char have[FORMAT_SIZE_MAX], all[FORMAT_SIZE_MAX], bar[BAR_WIDTH + 1];
	uint64_t done = layer_bytes(layer);
	size_t filled =
		layer->size ? (size_t)((double)done / (double)layer->size * BAR_WIDTH) : BAR_WIDTH;
	for (size_t i = 0; i < BAR_WIDTH; i++)
		bar[i] = i < filled ? '=' : i == filled ? '>' : ' ';
	bar[BAR_WIDTH] = '\0';
	format_size(layer->phase == PULL_DONE || layer->phase == PULL_PRESENT ? layer->size
									      : layer->fetched,
		have);
	snprintf(line, size, "  %.12s  %-10s [%s] %8s / %s", oci_digest_hex(&layer->blob),
		phase_name(layer->phase), bar, have, format_size(layer->size, all));
	if (width > 0 && (size_t)width < size)
		line[width] = '\0';
}

static void sample_rate(struct progress *p, uint64_t fetched)
{
	int64_t now = now_ms();
	if (!p->rate_time) {
		p->rate_time = now;
		p->rate_bytes = fetched;
		return;
	}
	if (now - p->rate_time < RATE_MS)
		return;
	// Fewer than before: a layer is fetched once more.
	uint64_t more = fetched > p->rate_bytes ? fetched - p->rate_bytes : 0;
	double rate = (double)more * 1000 / (double)(now - p->rate_time);
	p->rate = p->rate > 0 ? 0.6 * p->rate + 0.4 * rate : rate;
	p->rate_time = now;
	p->rate_bytes = fetched;
}

static void draw_total(struct progress *p, struct buffer *out, enum pull_phase phase,
	const struct pull_layer_progress *layers, size_t count)
{
	char have[FORMAT_SIZE_MAX], all[FORMAT_SIZE_MAX], rate[FORMAT_SIZE_MAX];
	uint64_t fetched = 0, size = 0;
	for (size_t i = 0; i < count; i++) {
		bool here = layers[i].phase == PULL_PRESENT || layers[i].phase == PULL_DONE;
		fetched += here ? layers[i].size : layers[i].fetched;
		size += layers[i].size;
	}
	sample_rate(p, fetched);
	double seconds = (double)(now_ms() - p->started) / 1000;
	if (!count) {
		buffer_printf(out, "%s  %s  %.1f s", p->name, phase_name(phase), seconds);
		return;
	}
	buffer_printf(out, "%s  %s / %s  %s/s  %.1f s", p->name, format_size(fetched, have),
		format_size(size, all), format_size((uint64_t)p->rate, rate), seconds);
}

// Layers that move are worth a line before those that are done, when not all fit.
static void draw_layers(struct progress *p, struct buffer *out,
	const struct pull_layer_progress *layers, size_t count)
{
	struct winsize w = {0};
	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &w) < 0 || !w.ws_row)
		w = (struct winsize){.ws_row = 24, .ws_col = 80};
	size_t room = w.ws_row > 3 ? w.ws_row - 3u : 1, shown = 0;
	for (size_t i = 0; i < count && shown < room; i++) {
		bool idle = layers[i].phase == PULL_DONE || layers[i].phase == PULL_PRESENT ||
			    layers[i].phase == PULL_WAITING;
		if (count > room && idle)
			continue;
		char line[160];
		progress_format_layer(line, sizeof(line), &layers[i], w.ws_col - 1);
		buffer_printf(out, "\x1b[K%s\n", line);
		shown++;
	}
	p->lines += (unsigned)shown;
}

static void draw(struct progress *p, enum pull_phase phase,
	const struct pull_layer_progress *layers, size_t count)
{
	cleanup_buffer struct buffer out = {0};
	struct error ignored = {0};
	if (p->lines)
		buffer_printf(&out, "\x1b[%uA\r", p->lines);
	buffer_puts(&out, "\x1b[K");
	draw_total(p, &out, phase, layers, count);
	buffer_puts(&out, "\n");
	p->lines = 1;
	draw_layers(p, &out, layers, count);
	buffer_puts(&out, "\x1b[J");
	write_all(STDERR_FILENO, out.data, out.size, "stderr", &ignored);
}

static void log_phases(struct progress *p, const struct pull_layer_progress *layers, size_t count)
{
	if (!p->phases && count) {
		uint64_t size = 0;
		char text[FORMAT_SIZE_MAX];
		for (size_t i = 0; i < count; i++)
			size += layers[i].size;
		fprintf(stderr, "%s: %zu layers, %s\n", p->name, count, format_size(size, text));
		p->phases = xcalloc(count, 1);
		p->count = count;
	}
	for (size_t i = 0; i < count && i < p->count; i++) {
		char text[FORMAT_SIZE_MAX];
		if (p->phases[i] == (unsigned char)layers[i].phase)
			continue;
		p->phases[i] = (unsigned char)layers[i].phase;
		fprintf(stderr, "%s: layer %zu/%zu %.12s %s (%s)\n", p->name, i + 1, count,
			oci_digest_hex(&layers[i].blob), phase_name(layers[i].phase),
			format_size(layers[i].size, text));
	}
}

static void tell_bytes(
	const struct progress *p, const struct pull_layer_progress *layers, size_t count)
{
	uint64_t done = 0, total = 0;
	for (size_t i = 0; i < count; i++) {
		if (layers[i].phase == PULL_PRESENT)
			continue;
		done += layers[i].phase == PULL_DONE ? layers[i].size : layers[i].fetched;
		total += layers[i].size;
	}
	p->bytes(p->data, done, total);
}

void progress_update(
	void *data, enum pull_phase phase, const struct pull_layer_progress *layers, size_t count)
{
	struct progress *p = data;
	if (p->bytes && count)
		tell_bytes(p, layers, count);
	if (p->terminal)
		draw(p, phase, layers, count);
	else
		log_phases(p, layers, count);
}

void progress_notice(void *data, const char *text)
{
	struct progress *p = data;
	fprintf(stderr, "%s%s: %s\n", p->lines ? "\r\x1b[K" : "", p->name, text);
	p->lines = 0; // what was drawn stays above the notice
}
