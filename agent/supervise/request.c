// SPDX-License-Identifier: Apache-2.0
#include "agent/supervise/request.h"

static void pack_pairs(struct pack *p, struct json_pairs *pairs)
{
	pairs->items = pack_array(p, pairs->items, &pairs->count, sizeof(*pairs->items));
	for (size_t i = 0; i < pairs->count; i++) {
		pack_text(p, &pairs->items[i].key);
		pack_text(p, &pairs->items[i].value);
	}
}

static void pack_files(struct pack *p, struct data_source *source)
{
	source->files = pack_array(p, source->files, &source->file_count, sizeof(*source->files));
	for (size_t i = 0; i < source->file_count; i++) {
		struct data_file *file = &source->files[i];
		pack_text(p, &file->url);
		pack_text(p, &file->name);
		pack_text(p, &file->sha256);
		pack_number(p, &file->size);
	}
}

static void pack_input(struct pack *p, struct data_source *source)
{
	uint64_t size = source->content_size;
	pack_text(p, &source->name);
	pack_text(p, &source->target);
	pack_bytes(p, &source->kind, sizeof(source->kind));
	pack_bytes(p, &source->mode, sizeof(source->mode));
	pack_bytes(p, &source->optional, sizeof(source->optional));
	pack_bytes(p, &source->writable, sizeof(source->writable));
	pack_bytes(p, &source->no_exec, sizeof(source->no_exec));
	pack_bytes(p, &source->unpack, sizeof(source->unpack));
	pack_bytes(p, &source->cache, sizeof(source->cache));
	pack_number(p, &source->max_bytes);
	pack_number(p, &source->max_seconds);
	pack_text(p, &source->path);
	pack_files(p, source);
	pack_text(p, &source->reference);
	pack_text(p, &source->profile);
	pack_text(p, &source->remote);
	pack_pairs(p, &source->options);
	pack_pairs(p, &source->variables);
	pack_texts(p, &source->command.items, &source->command.count);
	pack_text(p, &source->user);
	pack_text(p, &source->password_secret);
	pack_text(p, &source->content); // has no NUL in it
	pack_number(p, &size);
	source->content_size = size;
}

static void pack_inputs(struct pack *p, struct job_spec *s)
{
	s->inputs = pack_array(p, s->inputs, &s->input_count, sizeof(*s->inputs));
	for (size_t i = 0; i < s->input_count; i++)
		pack_input(p, &s->inputs[i]);
}

static void pack_binds(struct pack *p, struct job_spec *s)
{
	struct job_bind *binds = pack_array(p, (void *)s->binds, &s->bind_count, sizeof(*binds));
	for (size_t i = 0; i < s->bind_count; i++) {
		pack_text(p, &binds[i].source);
		pack_text(p, &binds[i].target);
		pack_bytes(p, &binds[i].read_only, sizeof(binds[i].read_only));
	}
	s->binds = binds;
}

static void pack_secrets(struct pack *p, struct job_spec *s)
{
	s->secrets = pack_array(p, s->secrets, &s->secret_count, sizeof(*s->secrets));
	for (size_t i = 0; i < s->secret_count; i++) {
		struct job_secret *secret = &s->secrets[i];
		uint64_t size = secret->size;
		pack_text(p, &secret->name);
		pack_text(p, &secret->variable);
		pack_number(p, &size);
		if (p->out) {
			buffer_append(p->out, secret->value, size);
			continue;
		}
		if (p->failed || (size_t)(p->end - p->at) < size) {
			p->failed = true;
			return;
		}
		secret->size = size;
		secret->value = arena_strndup(p->arena, p->at, size);
		p->at += size;
	}
}

// Without what only its image and its environment needed, which are made by then.
static void pack_spec(struct pack *p, struct job_spec *s)
{
	pack_text(p, &s->experiment);
	pack_text(p, &s->entry_script);
	pack_texts(p, &s->arguments.items, &s->arguments.count);
	pack_pairs(p, &s->variables);
	pack_inputs(p, s);
	pack_number(p, &s->shm_size);
	pack_bytes(p, &s->resources.cpus, sizeof(s->resources.cpus));
	pack_number(p, &s->resources.memory);
	pack_number(p, &s->resources.memory_swap);
	pack_number(p, &s->resources.disk);
	pack_number(p, &s->resources.pids);
	pack_number(p, &s->resources.gpus);
	pack_texts(p, &s->resources.devices.items, &s->resources.devices.count);
	pack_bytes(p, &s->network, sizeof(s->network));
	pack_number(p, &s->max_seconds);
	pack_number(p, &s->max_retries);
	pack_bytes(p, &s->environment.activation, sizeof(s->environment.activation));
	pack_text(p, &s->output_destination);
	pack_text(p, &s->display_name);
	pack_text(p, &s->description);
	pack_pairs(p, &s->tags);
	pack_pairs(p, &s->properties);
	pack_number(p, &s->node_count);
	pack_number(p, &s->process_count_per_node);
	pack_secrets(p, s);
	size_t words = 0;
	while (p->out && s->command && s->command[words])
		words++;
	const char **command = (const char **)s->command;
	pack_texts(p, &command, &words);
	s->command = command;
	pack_text(p, &s->working_directory);
	pack_text(p, &s->user);
	pack_binds(p, s);
	pack_bytes(p, &s->variables_alone, sizeof(s->variables_alone));
}

static void pack_run(struct pack *p, struct run *r)
{
	pack_bytes(p, r->id, sizeof(r->id));
	pack_bytes(p, r->experiment, sizeof(r->experiment));
	pack_bytes(p, &r->attempt, sizeof(r->attempt));
	pack_bytes(p, &r->state, sizeof(r->state));
	pack_bytes(p, &r->created_ms, sizeof(r->created_ms));
	pack_bytes(p, &r->phase_count, sizeof(r->phase_count));
	pack_bytes(p, r->boot_id, sizeof(r->boot_id));
	pack_bytes(p, &r->client, sizeof(r->client));
	pack_bytes(p, &r->image, sizeof(r->image));
	pack_bytes(p, &r->environment, sizeof(r->environment));
	if (r->phase_count > RUN_PHASES_MAX)
		p->failed = true;
	for (size_t i = 0; i < r->phase_count && !p->failed; i++) {
		pack_text(p, &r->phases[i].name);
		pack_bytes(p, &r->phases[i].start_ms, sizeof(int64_t));
		pack_bytes(p, &r->phases[i].end_ms, sizeof(int64_t));
		pack_bytes(p, r->phases[i].detail, sizeof(r->phases[i].detail));
		pack_number(p, &r->phases[i].bytes);
	}
}

static void pack_image(struct pack *p, struct oci_config *c)
{
	pack_texts(p, &c->env.items, &c->env.count);
	pack_texts(p, &c->entrypoint.items, &c->entrypoint.count);
	pack_texts(p, &c->cmd.items, &c->cmd.count);
	pack_text(p, &c->working_dir);
	pack_text(p, &c->user);
	pack_text(p, &c->stop_signal);
}

static void pack_layers(struct pack *p, struct supervise_request *r)
{
	r->layers = pack_array(p, r->layers, &r->layer_count, sizeof(*r->layers));
	for (size_t i = 0; i < r->layer_count; i++) {
		pack_bytes(p, &r->layers[i].diff_id, sizeof(r->layers[i].diff_id));
		pack_bytes(p, &r->layers[i].format, sizeof(r->layers[i].format));
	}
}

static void pack_data_policy(struct pack *p, struct data_policy *policy)
{
	pack_texts(p, &policy->bind_roots.items, &policy->bind_roots.count);
	pack_texts(p, &policy->local_hosts.items, &policy->local_hosts.count);
	pack_bytes(p, &policy->allow_fsimage, sizeof(policy->allow_fsimage));
	pack_texts(p, &policy->profiles.items, &policy->profiles.count);
	pack_number(p, &policy->max_bytes);
	pack_number(p, &policy->probe_ms);
	pack_number(p, &policy->flush_ms);
	pack_bytes(p, &policy->cache, sizeof(policy->cache));
}

static void pack_outputs_policy(struct pack *p, struct outputs_policy *policy)
{
	pack_text(p, &policy->destination);
	pack_number(p, &policy->interval_ms);
	pack_number(p, &policy->limit_ms);
	pack_number(p, &policy->max_bytes);
	pack_number(p, &policy->max_files);
}

static void pack_settings(struct pack *p, struct supervise_settings *s)
{
	struct job_policy *policy = &s->policy;
	pack_number(p, &s->grace_ms);
	pack_number(p, &s->log_bytes);
	pack_number(p, &s->log_keep_free);
	pack_text(p, &policy->runtime);
	pack_bytes(p, &policy->first_user_id, sizeof(policy->first_user_id));
	pack_number(p, &policy->user_id_ranges);
	pack_bytes(p, &policy->require_user_ids, sizeof(policy->require_user_ids));
	pack_bytes(p, &policy->allow_host_network, sizeof(policy->allow_host_network));
	pack_text(p, &policy->cgroup);
	pack_number(p, &policy->agent_memory);
	pack_texts(p, &policy->cdi_folders.items, &policy->cdi_folders.count);
	pack_bytes(p, &policy->network, sizeof(policy->network));
	pack_bytes(p, &policy->cpus, sizeof(policy->cpus));
	pack_number(p, &policy->memory);
	pack_number(p, &policy->pids);
	pack_data_policy(p, &s->data);
	pack_outputs_policy(p, &s->outputs);
	pack_bytes(p, &s->end_with_client, sizeof(s->end_with_client));
}

static void pack_ready(struct pack *p, struct supervise_request *r)
{
	size_t count = r->ready ? r->spec.input_count : 0;
	r->ready = pack_array(p, r->ready, &count, sizeof(*r->ready));
	for (size_t i = 0; i < count; i++) {
		struct data_ready *ready = &r->ready[i];
		pack_text(p, &ready->digest);
		pack_text(p, &ready->kept);
		pack_bytes(p, &ready->is_file, sizeof(ready->is_file));
		pack_bytes(p, &ready->absent, sizeof(ready->absent));
		pack_number(p, &ready->bytes);
	}
	if (!p->out && (count != r->spec.input_count || !count)) {
		p->failed = p->failed || count;
		r->ready = NULL;
	}
}

static void pack_request(struct pack *p, struct supervise_request *r)
{
	pack_text(p, &r->state_dir);
	pack_text(p, &r->run_dir);
	pack_bytes(p, &r->limits, sizeof(r->limits));
	pack_bytes(p, &r->backing, sizeof(r->backing));
	pack_settings(p, &r->settings);
	pack_spec(p, &r->spec);
	pack_run(p, &r->run);
	pack_image(p, &r->image);
	pack_layers(p, r);
	pack_ready(p, r);
	pack_bytes(p, &r->listen_port, sizeof(r->listen_port));
}

void supervise_request_pack(
	const struct job *job, const struct supervise_settings *settings, struct buffer *out)
{
	struct pack p = {.out = out};
	struct supervise_request r = {
		.state_dir = job->store->state_dir,
		.run_dir = job->store->run_dir,
		.limits = job->store->limits,
		.backing = job->store->layer_backing,
		.settings = *settings,
		.spec = *job->spec,
		.run = *job->run,
		.image = *job->image,
		.layers = job->layers->items,
		.layer_count = job->layers->count,
		.listen_port = job->listen_port,
		.ready = (struct data_ready *)job->ready,
	};
	pack_request(&p, &r);
}

int supervise_request_unpack(
	struct supervise_request *r, const char *data, size_t size, struct error *err)
{
	struct pack p = {.at = data, .end = data + size, .arena = &r->arena};
	r->run = (struct run){.runs_fd = -1, .fd = -1, .lock_fd = -1};
	pack_request(&p, r);
	if (p.failed || p.at != p.end || !r->state_dir || !r->run_dir)
		return error_set(err, ERROR_INVALID, "the supervisor's request is damaged");
	for (size_t i = 0; i < r->layer_count; i++)
		r->layers[i].fd = -1;
	r->run.spec = &r->spec;
	return 0;
}

void supervise_request_release(struct supervise_request *r)
{
	arena_release(&r->arena);
	*r = (struct supervise_request){0};
}
