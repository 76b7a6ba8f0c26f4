// SPDX-License-Identifier: Apache-2.0
#include "controller/database/schema.h"

#include "base/memory.h"

// Documents (job, cause, resources …) are JSON as text. Times are ms since 1970. What is at hand is
// in columns, what is only passed on is in documents.
static const char *const initial[] = {
	// Credentials. `hash`: SHA-256 of the token, in hexadecimal. `node`: of role node; `run`,
	// `attempt`: of
	// role run and metrics.
	"CREATE TABLE token (id TEXT PRIMARY KEY, role TEXT NOT NULL, owner TEXT NOT NULL,"
	" hash TEXT NOT NULL, node TEXT, run TEXT, attempt BIGINT, created BIGINT NOT NULL,"
	" expires BIGINT, last_used BIGINT, revoked BIGINT)",
	"CREATE INDEX token_of_run ON token (run)",
	"CREATE INDEX token_of_node ON token (node)",

	// `state`: as users see it, save NotResponding, which is derived. `outcome`: the result
	// that is known while
	// Finalizing. `attempt`: the last one, 0: none yet. `hint`: SHA-256 of what the environment
	// is made of;
	// `image`: as the job names it. `events`: number of the last event. `losses`: attempts lost
	// with their nodes.
	// cpus, memory, gpus: what it needs on a node. `secrets`: gone at the end. `files`: how
	// many it has.
	"CREATE TABLE run (id TEXT PRIMARY KEY, experiment TEXT NOT NULL, owner TEXT NOT NULL,"
	" state TEXT NOT NULL, outcome TEXT, phase TEXT, progress TEXT, cause TEXT, upload TEXT,"
	" created BIGINT NOT NULL, started BIGINT, ended BIGINT, attempt BIGINT NOT NULL DEFAULT 0,"
	" node TEXT, cancel_requested BIGINT, canceled_by TEXT, snapshot TEXT, properties TEXT,"
	" job TEXT NOT NULL, secrets TEXT, idempotency TEXT, priority BIGINT NOT NULL DEFAULT 0,"
	" cpus DOUBLE PRECISION NOT NULL DEFAULT 1, memory BIGINT NOT NULL DEFAULT 0,"
	" gpus BIGINT NOT NULL DEFAULT 0, hint TEXT, image TEXT, losses BIGINT NOT NULL DEFAULT 0,"
	" events BIGINT NOT NULL DEFAULT 0, manifest BIGINT, files BIGINT NOT NULL DEFAULT 0)",
	"CREATE INDEX run_in_queue ON run (priority DESC, created, id) WHERE state = 'NotStarted'",
	"CREATE INDEX run_by_time ON run (created, id)",
	"CREATE INDEX run_by_experiment ON run (experiment, created, id)",
	"CREATE UNIQUE INDEX run_once ON run (owner, idempotency)",

	// A node's turn at a run. `state`: assigned, then what the node says: accepted, preparing,
	// running, finalizing,
	// ended; or lost. `sequence`: of its last word. `lease_until`: renewed by polls. `open`: 1
	// as long as its
	// share of the node is taken.
	"CREATE TABLE attempt (run TEXT NOT NULL, attempt BIGINT NOT NULL, node TEXT NOT NULL,"
	" state TEXT NOT NULL, sequence BIGINT NOT NULL DEFAULT 0, cause TEXT, result TEXT,"
	" exit_status BIGINT, created BIGINT NOT NULL, started BIGINT, ended BIGINT,"
	" lease_until BIGINT NOT NULL, environment TEXT, retries BIGINT NOT NULL DEFAULT 0,"
	" restore BIGINT NOT NULL DEFAULT 0, open BIGINT NOT NULL DEFAULT 1,"
	" PRIMARY KEY (run, attempt))",
	"CREATE INDEX attempt_of_node ON attempt (node) WHERE open = 1",
	"CREATE INDEX attempt_lease ON attempt (lease_until) WHERE open = 1",

	// `used_*`: the sum of its open attempts. `drain`: an administrator's wish; `draining`: the
	// node's own. `away`: its agent has said that it ends for now.
	"CREATE TABLE node (id TEXT PRIMARY KEY, name TEXT NOT NULL, drain BIGINT NOT NULL DEFAULT "
	"0,"
	" draining BIGINT NOT NULL DEFAULT 0, version TEXT, boot TEXT, instance TEXT, resources "
	"TEXT,"
	" cpus DOUBLE PRECISION NOT NULL DEFAULT 0, memory BIGINT NOT NULL DEFAULT 0,"
	" gpus BIGINT NOT NULL DEFAULT 0, used_cpus DOUBLE PRECISION NOT NULL DEFAULT 0,"
	" used_memory BIGINT NOT NULL DEFAULT 0, used_gpus BIGINT NOT NULL DEFAULT 0,"
	" away BIGINT NOT NULL DEFAULT 0,"
	" joined BIGINT NOT NULL, last_seen BIGINT NOT NULL DEFAULT 0, removed BIGINT)",
	"CREATE UNIQUE INDEX node_name ON node (name) WHERE removed IS NULL",
	// What is at hand there: kind image or environment.
	"CREATE TABLE node_has (node TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL,"
	" PRIMARY KEY (node, kind, name))",
	"CREATE INDEX node_has_name ON node_has (kind, name)",
	// Which environment jobs of that hint came to have.
	"CREATE TABLE environment (hint TEXT PRIMARY KEY, name TEXT NOT NULL, seen BIGINT NOT "
	"NULL)",

	"CREATE TABLE event (run TEXT NOT NULL, number BIGINT NOT NULL, kind TEXT NOT NULL,"
	" data TEXT NOT NULL, time BIGINT NOT NULL, PRIMARY KEY (run, number))",

	// `kind`: file, folder, link. `blob`: the bytes (files/blobs.h); `part`: those that will
	// replace
	// them. `size` and `sha256` are of what is finished; complete 0: grows, ask the blob.
	"CREATE TABLE file (run TEXT NOT NULL, path TEXT@BYTEWISE@ NOT NULL, kind TEXT NOT NULL, "
	"blob TEXT,"
	" part TEXT, size BIGINT NOT NULL DEFAULT 0, sha256 TEXT, complete BIGINT NOT NULL DEFAULT "
	"0,"
	" mode BIGINT NOT NULL DEFAULT 420, mtime_ns BIGINT NOT NULL DEFAULT 0, target TEXT,"
	" PRIMARY KEY (run, path))",
	"CREATE TABLE snapshot (sha256 TEXT PRIMARY KEY, blob TEXT NOT NULL, size BIGINT NOT NULL,"
	" used BIGINT NOT NULL)",
	// Of an object store: a blob's pieces (files/pieces.h), the small ones at its end in the
	// table
	// itself. `data`: the bytes, or of an object the SHA-256 of each MiB.
	"CREATE TABLE piece (blob TEXT NOT NULL, start BIGINT NOT NULL, size BIGINT NOT NULL,"
	" object TEXT, data @BYTES@, PRIMARY KEY (blob, start))",
	// Blobs that nothing needs any more; removed behind the transaction that left them.
	"CREATE TABLE garbage (blob TEXT PRIMARY KEY, since BIGINT NOT NULL)",

	"CREATE TABLE metric (run TEXT NOT NULL, name TEXT NOT NULL, number BIGINT NOT NULL,"
	" value DOUBLE PRECISION NOT NULL, step BIGINT, time BIGINT NOT NULL,"
	" PRIMARY KEY (run, name, number))",
	"CREATE TABLE model (name TEXT NOT NULL, version BIGINT NOT NULL, owner TEXT NOT NULL,"
	" run TEXT NOT NULL, path TEXT NOT NULL, description TEXT, tags TEXT, properties TEXT,"
	" framework TEXT, framework_version TEXT, created BIGINT NOT NULL,"
	" PRIMARY KEY (name, version))",
	"CREATE INDEX model_of_run ON model (run)",
	NULL,
};

static const char *const objects[] = {
	// Objects of the store that are nobody's: being written (doomed 0; `upload`: in parts), or
	// needed no more (1). Removed when `due` is over.
	"CREATE TABLE stray_object (name TEXT PRIMARY KEY, due BIGINT NOT NULL,"
	" doomed BIGINT NOT NULL, upload TEXT)",
	"CREATE INDEX stray_object_due ON stray_object (due)",
	NULL,
};

// @BYTES@ is BLOB or BYTEA; @BYTEWISE@ is nothing or COLLATE "C".
const struct migration migrations[] = {
	{1, initial},
	{2, objects},
};
const size_t migration_count = array_size(migrations);
