// SPDX-License-Identifier: Apache-2.0
#include "controller/state/file.h"

#include "base/text.h"
#include "base/time.h"

#include <stdio.h>

static const char columns[] =
	"path, kind, blob, part, sha256, target, size, complete, mode, mtime_ns";
enum { PATH, KIND, BLOB, PART, SHA256, TARGET, SIZE, COMPLETE, MODE, MTIME };

int file_path_check(const char *path, struct error *err)
{
	static const char *const tops[] = {
		"outputs", "logs", "user_logs", "system_logs", "attempts"};
	size_t top = strcspn(path, "/");
	bool known = false;
	for (size_t i = 0; i < array_size(tops); i++)
		known |= strlen(tops[i]) == top && strncmp(path, tops[i], top) == 0;
	if (!known)
		return error_set(err, ERROR_INVALID,
			"path: must begin with outputs/, logs/, user_logs/, system_logs/ or "
			"attempts/");
	if (strlen(path) > FILE_PATH_MAX)
		return error_set(err, ERROR_INVALID, "path: over %d bytes", FILE_PATH_MAX);
	for (const char *p = path;; p++) {
		size_t n = strcspn(p, "/");
		if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
			return error_set(
				err, ERROR_INVALID, "path: has an empty part, \".\" or \"..\"");
		p += n;
		if (!*p)
			return 0;
	}
}

static struct file_row row_of(const struct database_rows *r, size_t i)
{
	return (struct file_row){
		.path = database_get_text(r, i, PATH),
		.kind = database_get_text(r, i, KIND),
		.blob = database_get_text(r, i, BLOB),
		.part = database_get_text(r, i, PART),
		.sha256 = database_get_text(r, i, SHA256),
		.target = database_get_text(r, i, TARGET),
		.size = (uint64_t)database_get_integer(r, i, SIZE, 0),
		.complete = database_get_integer(r, i, COMPLETE, 0) != 0,
		.mode = (unsigned)database_get_integer(r, i, MODE, 0),
		.mtime_ns = database_get_integer(r, i, MTIME, 0),
	};
}

int file_get(struct database_tx *tx, struct arena *a, const char *run, const char *path,
	struct file_row *f, struct error *err)
{
	struct database_rows rows;
	const char *sql =
		arena_printf(a, "SELECT %s FROM file WHERE run = ?1 AND path = ?2", columns);
	if (database_run(tx, a, sql, database_values(database_text(run), database_text(path)),
		    &rows, err) < 0)
		return -1;
	*f = rows.count ? row_of(&rows, 0) : (struct file_row){.path = path};
	return 0;
}

// What begins with `prefix` lies between it and the same with its last byte one higher; so the
// index finds it, whatever characters it has.
static const char *behind_prefix(struct arena *a, const char *prefix)
{
	// No text has a character above it.
	return arena_printf(a, "%s\xf4\x8f\xbf\xbf", prefix);
}

int file_list(struct database_tx *tx, struct arena *a, const char *run, const char *top,
	const char *prefix, const char *after, uint64_t limit, struct file_row **files,
	size_t *count, struct error *err)
{
	struct database_rows rows;
	const char *sql = arena_printf(a,
		"SELECT %s FROM file WHERE run = ?1 AND path >= ?2 AND path < ?3 AND path > ?4 "
		"AND (?6 = '' OR path = ?6 OR (path >= ?7 AND path < ?8)) ORDER BY path LIMIT ?5",
		columns);
	const char *inside = arena_printf(a, "%s/", top);
	if (database_run(tx, a, sql,
		    database_values(database_text(run), database_text(prefix),
			    database_text(behind_prefix(a, prefix)), database_text(after),
			    database_integer((int64_t)limit), database_text(top),
			    database_text(inside), database_text(behind_prefix(a, inside))),
		    &rows, err) < 0)
		return -1;
	*files = arena_array(a, struct file_row, rows.count + 1);
	*count = rows.count;
	for (size_t i = 0; i < rows.count; i++)
		(*files)[i] = row_of(&rows, i);
	return 0;
}

// ---- writing

static int discard(struct database_tx *tx, struct arena *a, const char *blob, struct error *err)
{
	if (!blob)
		return 0;
	return database_do(tx, a,
		"INSERT INTO garbage (blob, since) VALUES (?1, ?2) "
		"ON CONFLICT (blob) DO NOTHING",
		database_values(database_text(blob), database_integer(wall_ms())), err);
}

static int unmark(struct database_tx *tx, struct arena *a, const char *run, struct error *err)
{
	return database_do(tx, a,
		"UPDATE run SET manifest = NULL WHERE id = ?1 AND manifest IS NOT NULL",
		database_values(database_text(run)), err);
}

static int count_file(struct database_tx *tx, struct arena *a,
	const struct controller_limits *limits, const char *run, struct error *err)
{
	struct database_rows rows;
	if (database_run(tx, a, "UPDATE run SET files = files + 1 WHERE id = ?1 RETURNING files",
		    database_values(database_text(run)), &rows, err) < 0)
		return -1;
	if (limits->run_files && (uint64_t)database_get_integer(&rows, 0, 0, 0) > limits->run_files)
		return error_set(err, ERROR_LIMIT, "the run has more than %llu files",
			(unsigned long long)limits->run_files);
	return 0;
}

// outputs/, logs/ … themselves stay folders.
static int check_below_top(const char *path, struct error *err)
{
	return strchr(path, '/') ? 0 : error_set(err, ERROR_INVALID, "path: %s is a folder", path);
}

// A row for the path, of that kind; what had the name before and was another kind goes.
static int make_row(struct database_tx *tx, struct arena *a, const struct controller_limits *limits,
	const char *run, const char *path, const char *kind, struct file_row *f, struct error *err)
{
	if (file_path_check(path, err) < 0 ||
		(!streq(kind, "folder") && check_below_top(path, err) < 0) ||
		file_get(tx, a, run, path, f, err) < 0 || unmark(tx, a, run, err) < 0)
		return -1;
	if (f->kind && streq(f->kind, kind))
		return 0;
	if (f->kind && file_remove(tx, a, run, path, err) < 0)
		return -1;
	if (database_do(tx, a, "INSERT INTO file (run, path, kind) VALUES (?1, ?2, ?3)",
		    database_values(database_text(run), database_text(path), database_text(kind)),
		    err) < 0)
		return -1;
	*f = (struct file_row){.path = path, .kind = kind};
	return count_file(tx, a, limits, run, err);
}

int file_is_open(struct database_tx *tx, struct arena *a, const char *run, const char *path,
	bool part, char blob[BLOB_ID_SIZE], struct error *err)
{
	struct file_row f;
	if (file_path_check(path, err) < 0 || file_get(tx, a, run, path, &f, err) < 0)
		return -1;
	const char *there = part ? f.part : f.blob;
	if (!f.kind || !streq(f.kind, "file") || !there || (!part && f.complete))
		return 0;
	snprintf(blob, BLOB_ID_SIZE, "%s", there);
	return 1;
}

int file_open(struct database_tx *tx, struct arena *a, const struct controller_limits *limits,
	const char *run, const char *path, bool part, char blob[BLOB_ID_SIZE], struct error *err)
{
	struct file_row f;
	if (make_row(tx, a, limits, run, path, "file", &f, err) < 0)
		return -1;
	const char *there = part ? f.part : f.blob;
	if (there)
		snprintf(blob, BLOB_ID_SIZE, "%s", there);
	else
		blob_id_make(blob);
	const char *sql = part ? "UPDATE file SET part = ?3 WHERE run = ?1 AND path = ?2"
			       : "UPDATE file SET blob = ?3, complete = 0, sha256 = NULL "
				 "WHERE run = ?1 AND path = ?2";
	return database_do(tx, a, sql,
		database_values(database_text(run), database_text(path), database_text(blob)), err);
}

static int set_end(struct database_tx *tx, struct arena *a, const char *run, const char *path,
	const struct file_end *end, struct error *err)
{
	return database_do(tx, a,
		"UPDATE file SET blob = ?3, size = ?4, sha256 = ?5, complete = 1, mode = "
		"?6, "
		"mtime_ns = ?7 WHERE run = ?1 AND path = ?2",
		database_values(database_text(run), database_text(path),
			database_text(*end->blob ? end->blob : NULL),
			database_integer((int64_t)end->size), database_text(end->sha256),
			database_integer(end->mode), database_integer(end->mtime_ns)),
		err);
}

static int drop_part(struct database_tx *tx, struct arena *a, const char *run, const char *path,
	struct error *err)
{
	return database_do(tx, a, "UPDATE file SET part = NULL WHERE run = ?1 AND path = ?2",
		database_values(database_text(run), database_text(path)), err);
}

int file_finish(struct database_tx *tx, struct arena *a, const struct controller_limits *limits,
	const char *run, const char *path, const struct file_end *end, struct error *err)
{
	struct file_row f;
	if (make_row(tx, a, limits, run, path, "file", &f, err) < 0)
		return -1;
	const char *there = end->part ? f.part : f.blob;
	if (!streq(there ? there : "", end->blob))
		return error_set(err, ERROR_UNAVAILABLE,
			"%s has changed while its end was being checked", path);
	if (end->part && (discard(tx, a, f.blob, err) < 0 || drop_part(tx, a, run, path, err) < 0))
		return -1;
	return set_end(tx, a, run, path, end, err);
}

int file_replace(struct database_tx *tx, struct arena *a, const struct controller_limits *limits,
	const char *run, const char *path, const struct file_end *end, struct error *err)
{
	struct file_row f;
	if (make_row(tx, a, limits, run, path, "file", &f, err) < 0 ||
		discard(tx, a, f.blob, err) < 0 || discard(tx, a, f.part, err) < 0 ||
		drop_part(tx, a, run, path, err) < 0)
		return -1;
	return set_end(tx, a, run, path, end, err);
}

int file_forget(struct database_tx *tx, struct arena *a, const char *run, const char *path,
	bool part, struct error *err)
{
	struct file_row f;
	if (file_get(tx, a, run, path, &f, err) < 0 ||
		discard(tx, a, part ? f.part : f.blob, err) < 0)
		return -1;
	if (part)
		return drop_part(tx, a, run, path, err);
	return database_do(tx, a,
		"UPDATE file SET blob = NULL, complete = 0, sha256 = NULL, size = 0 "
		"WHERE run = ?1 AND path = ?2",
		database_values(database_text(run), database_text(path)), err);
}

int file_folder(struct database_tx *tx, struct arena *a, const struct controller_limits *limits,
	const char *run, const char *path, unsigned mode, struct error *err)
{
	struct file_row f;
	if (make_row(tx, a, limits, run, path, "folder", &f, err) < 0)
		return -1;
	return database_do(tx, a,
		"UPDATE file SET mode = ?3, complete = 1 WHERE run = ?1 AND path = ?2",
		database_values(database_text(run), database_text(path), database_integer(mode)),
		err);
}

int file_link(struct database_tx *tx, struct arena *a, const struct controller_limits *limits,
	const char *run, const char *path, const char *target, struct error *err)
{
	struct file_row f;
	if (strlen(target) > FILE_TARGET_MAX)
		return error_set(err, ERROR_INVALID, "target: over %d bytes", FILE_TARGET_MAX);
	if (make_row(tx, a, limits, run, path, "link", &f, err) < 0)
		return -1;
	return database_do(tx, a,
		"UPDATE file SET target = ?3, complete = 1 WHERE run = ?1 AND path = ?2",
		database_values(database_text(run), database_text(path), database_text(target)),
		err);
}

// ---- trees

// Rows of `path` itself and of all below it.
static const char below[] = " run = ?1 AND (path = ?2 OR (path >= ?3 AND path < ?4))";

static int on_tree(struct database_tx *tx, struct arena *a, const char *sql, const char *run,
	const char *path, struct error *err)
{
	const char *inside = arena_printf(a, "%s/", path);
	int64_t n = database_run(tx, a, arena_printf(a, "%s%s", sql, below),
		database_values(database_text(run), database_text(path), database_text(inside),
			database_text(behind_prefix(a, inside))),
		NULL, err);
	return n < 0 ? -1 : (int)(n > INT32_MAX ? INT32_MAX : n);
}

int file_remove(struct database_tx *tx, struct arena *a, const char *run, const char *path,
	struct error *err)
{
	static const char *const kinds[] = {"blob", "part"};
	for (size_t i = 0; i < array_size(kinds); i++) {
		const char *sql = arena_printf(a,
			"INSERT INTO garbage (blob, since) SELECT %s, %lld FROM file "
			"WHERE %s IS NOT NULL AND",
			kinds[i], (long long)wall_ms(), kinds[i]);
		if (on_tree(tx, a, sql, run, path, err) < 0)
			return -1;
	}
	int gone = on_tree(tx, a, "DELETE FROM file WHERE", run, path, err);
	if (gone < 0 || unmark(tx, a, run, err) < 0)
		return -1;
	return database_do(tx, a, "UPDATE run SET files = files - ?2 WHERE id = ?1",
		database_values(database_text(run), database_integer(gone)), err);
}

int file_move_top(struct database_tx *tx, struct arena *a, const char *run, const char *from,
	const char *to, struct error *err)
{
	const char *inside = arena_printf(a, "%s/", from);
	if (file_path_check(from, err) < 0 || file_path_check(to, err) < 0)
		return -1;
	if (starts_with(to, inside))
		return error_set(err, ERROR_INVALID, "%s cannot be moved into itself", from);
	if (streq(from, to))
		return 0;
	if (file_remove(tx, a, run, to, err) < 0)
		return -1;
	int64_t moved = database_run(tx, a,
		"UPDATE file SET path = ?5 || substr(path, length(?2) + 1) WHERE run = ?1 AND "
		"(path = ?2 OR "
		"(path >= ?3 AND path < ?4))",
		database_values(database_text(run), database_text(from), database_text(inside),
			database_text(behind_prefix(a, inside)), database_text(to)),
		NULL, err);
	if (moved < 0)
		return -1;
	return moved ? 0 : error_set(err, ERROR_NOT_FOUND, "there is no %s", from);
}

int file_move(struct database_tx *tx, struct arena *a, const char *run, const char *from,
	const char *to, struct error *err)
{
	if (check_below_top(from, err) < 0 || check_below_top(to, err) < 0)
		return -1;
	return file_move_top(tx, a, run, from, to, err);
}

int file_manifest(struct database_tx *tx, struct arena *a, const char *run, struct error *err)
{
	struct database_rows rows;
	if (database_run(tx, a,
		    "SELECT path FROM file WHERE run = ?1 AND (complete = 0 OR part IS NOT NULL) "
		    "AND (path LIKE 'outputs/%' OR path LIKE 'logs/%') ORDER BY path LIMIT 1",
		    database_values(database_text(run)), &rows, err) < 0)
		return -1;
	if (rows.count)
		return error_set(
			err, ERROR_INVALID, "%s is not finished", database_get_text(&rows, 0, 0));
	return database_do(tx, a, "UPDATE run SET manifest = ?2 WHERE id = ?1",
		database_values(database_text(run), database_integer(wall_ms())), err);
}

int file_remove_all(struct database_tx *tx, struct arena *a, const char *run, struct error *err)
{
	static const char *const tops[] = {
		"outputs", "logs", "user_logs", "system_logs", "attempts"};
	for (size_t i = 0; i < array_size(tops); i++)
		if (file_remove(tx, a, run, tops[i], err) < 0)
			return -1;
	return 0;
}
