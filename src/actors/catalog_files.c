/* Manifests as Parquet, through DuckDB. Runs on the thread that owns the files, and blocks.
 *
 * Many small files cost one statement: a batch is read as one table, grouped by file, each group as
 * the JSON of its manifest, so that what a file may say is checked where every manifest is read.
 * When a statement fails, its files are read one by one: a broken one costs nobody else.
 *
 * Invariant: a file's name is used once, as DuckDB may remember what it has read of a name. */
#include "actors/catalog_files.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define MEMORY_BYTES   (256ull << 20) /* a manifest's rows are 64 MiB at most */
#define PATH_BYTES_MAX (PATH_MAX + 32u)

enum lh_status lh_catalog_files_init(struct lh_catalog_files *files, const char *folder,
                                     struct lh_error *error)
{
    *files = (struct lh_catalog_files){.session = NULL};
    if (strlen(folder) + sizeof "/spill" > sizeof files->folder)
        return lh_error_set(error, LH_CONFIG, "%.100s: the path is too long", folder);
    snprintf(files->folder, sizeof files->folder, "%s%s", folder,
             folder[strlen(folder) - 1] == '/' ? "" : "/");
    char spill[PATH_BYTES_MAX];
    snprintf(spill, sizeof spill, "%sspill", files->folder);
    struct lh_sql_options options = {.folder = files->folder,
                                     .spill_folder = spill,
                                     .memory_bytes = MEMORY_BYTES,
                                     .spill_bytes = MEMORY_BYTES,
                                     .reads_once = true};
    return lh_sql_open(&options, &files->sql, error);
}

void lh_catalog_files_deinit(struct lh_catalog_files *files)
{
    if (files->session != NULL)
        lh_sql_session_destroy(files->session);
    if (files->sql != NULL)
        lh_sql_close(files->sql);
    *files = (struct lh_catalog_files){.session = NULL};
}

static enum lh_status connect(struct lh_catalog_files *files, struct lh_error *error)
{
    if (files->session != NULL) {
        lh_sql_rest(files->session);
        return LH_OK;
    }
    return lh_sql_session_create(files->sql, &files->session, error);
}

static void make_path(struct lh_catalog_files *files, char path[PATH_BYTES_MAX])
{
    snprintf(path, PATH_BYTES_MAX, "%s%" PRIu64 ".parquet", files->folder, files->made++);
}

/* ---- plain files ---- */

static enum lh_status file_failed(struct lh_error *error, const char *what, const char *path)
{
    int sys_errno = errno;
    return lh_error_sys(error,
                        sys_errno == ENOSPC || sys_errno == EDQUOT ? LH_NO_SPACE : LH_DISK_FAILED,
                        sys_errno, "%s %.80s", what, path);
}

static enum lh_status save(const char *path, struct lh_str bytes, struct lh_error *error)
{
    enum lh_status status = LH_OK;
    size_t done = 0;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return file_failed(error, "write", path);
    while (done < bytes.len && status == LH_OK) {
        ssize_t n = write(fd, bytes.ptr + done, bytes.len - done);
        if (n > 0)
            done += (size_t)n;
        else if (errno != EINTR)
            status = file_failed(error, "write", path);
    }
    close(fd);
    return status;
}

static enum lh_status load(const char *path, struct lh_buf *bytes, struct lh_error *error)
{
    struct stat info;
    enum lh_status status = LH_OK;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) != 0)
        status = file_failed(error, "read", path);
    else if (lh_buf_reserve(bytes, (size_t)info.st_size) != LH_OK)
        status = lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for the manifest's file");
    size_t end = bytes->len + (status == LH_OK ? (size_t)info.st_size : 0);
    while (status == LH_OK && bytes->len < end) {
        ssize_t n = read(fd, bytes->ptr + bytes->len, end - bytes->len);
        if (n > 0)
            bytes->len += (size_t)n;
        else if (n == 0 || errno != EINTR)
            status = file_failed(error, "read", path);
    }
    if (fd >= 0)
        close(fd);
    return status;
}

/* ---- writing ---- */

/* The objects as one literal: a list of any length is parsed at once, not as an expression each. */
static void append_rows(const struct lh_manifest *manifest, struct lh_buf *out)
{
    struct lh_buf json = LH_BUF_EMPTY;
    lh_buf_append_char(&json, '[');
    for (uint32_t i = 0; i < manifest->count; i++) {
        const struct lh_manifest_object *object = &manifest->objects[i];
        lh_buf_append_str(&json, i > 0 ? LH_STR(",{\"key\":") : LH_STR("{\"key\":"));
        lh_buf_append_json_string(&json, object->key);
        lh_buf_printf(&json, ",\"size\":%" PRIu64 ",\"fingerprint\":", object->size);
        lh_buf_append_json_string(&json, object->fingerprint);
        lh_buf_append_char(&json, '}');
    }
    lh_buf_append_char(&json, ']');
    lh_sql_append_literal(out, lh_buf_str(&json));
    out->failed |= lh_buf_failed(&json);
    lh_buf_deinit(&json);
}

static void append_copy(const struct lh_manifest *manifest, const char *path, struct lh_buf *out)
{
    lh_buf_append_str(out, LH_STR("COPY (SELECT "));
    lh_sql_append_literal(out, lh_str_of(manifest->dataset_id));
    lh_buf_append_str(out, LH_STR(" AS dataset_id, "));
    lh_sql_append_literal(out, manifest->name);
    lh_buf_printf(out,
                  " AS name, o.fingerprint AS fingerprint, %" PRIu64
                  "::BIGINT AS version, o.\"key\" AS \"key\", o.size AS size, ",
                  manifest->version);
    if (manifest->has_row_count)
        lh_buf_printf(out, "%" PRIu64, manifest->row_count);
    else
        lh_buf_append_str(out, LH_STR("NULL"));
    lh_buf_append_str(out, LH_STR("::BIGINT AS row_count, "));
    if (manifest->schema_json.len > 0)
        lh_sql_append_literal(out, manifest->schema_json);
    else
        lh_buf_append_str(out, LH_STR("NULL::VARCHAR"));
    lh_buf_printf(out, " AS schema_json, to_timestamp(%" PRIu64 ".%03u::DOUBLE) AS created_at ",
                  manifest->created_ms / 1000, (unsigned)(manifest->created_ms % 1000));
    lh_buf_append_str(out, LH_STR("FROM (SELECT unnest(from_json("));
    append_rows(manifest, out);
    lh_buf_append_str(out, LH_STR(", '[{\"key\":\"VARCHAR\",\"size\":\"BIGINT\","
                                  "\"fingerprint\":\"VARCHAR\"}]')) AS o)) TO "));
    lh_sql_append_literal(out, lh_str_of(path));
    lh_buf_append_str(out, LH_STR(" (FORMAT parquet, COMPRESSION snappy)"));
    lh_buf_append_char(out, '\0');
}

/* DuckDB names an error of the system only in its text. */
static enum lh_status copy_failed(struct lh_error *error)
{
    if (error->status == LH_IO)
        error->status = strstr(error->text, "No space left") != NULL ? LH_NO_SPACE : LH_DISK_FAILED;
    else if (error->status != LH_OUT_OF_MEMORY)
        error->status = LH_INTERNAL; /* the statement is ours */
    return error->status;
}

enum lh_status lh_catalog_files_write(struct lh_catalog_files *files,
                                      const struct lh_manifest *manifest, struct lh_buf *bytes,
                                      struct lh_error *error)
{
    char path[PATH_BYTES_MAX];
    struct lh_buf text = LH_BUF_EMPTY;
    enum lh_status status = connect(files, error);
    if (status != LH_OK)
        return status;
    make_path(files, path);
    append_copy(manifest, path, &text);
    if (lh_buf_failed(&text))
        status = lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for the manifest");
    else if (lh_sql_execute(files->session, text.ptr, error) != LH_OK)
        status = copy_failed(error);
    lh_buf_deinit(&text);
    if (status == LH_OK)
        status = load(path, bytes, error);
    unlink(path);
    return status;
}

/* ---- reading ---- */

static bool is_manifests(struct lh_str name, void *arg)
{
    (void)arg;
    return lh_str_eq(name, LH_STR("manifests"));
}

/* The files of `paths` as a view of two columns: a file, and its manifest as JSON. */
static void append_view(const char *const *paths, uint32_t count, struct lh_buf *out)
{
    lh_buf_append_str(
        out,
        LH_STR("CREATE OR REPLACE TEMP VIEW manifests AS SELECT filename, json_object("
               "'dataset_id', min(dataset_id), 'name', min(name), "
               "'fingerprint', arg_max(fingerprint, file_row_number), 'version', min(version), "
               "'objects', to_json(list({'key': \"key\", 'size': size, "
               "'fingerprint': fingerprint} ORDER BY file_row_number)), "
               "'schema', min(schema_json)::JSON, 'row_count', min(row_count), "
               "'created_at', strftime(make_timestamp_ms(epoch_ms(min(created_at))), "
               "'%Y-%m-%dT%H:%M:%S.%gZ'))::VARCHAR AS manifest FROM read_parquet(["));
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0)
            lh_buf_append_char(out, ',');
        lh_sql_append_literal(out, lh_str_of(paths[i]));
    }
    lh_buf_append_str(
        out, LH_STR("], filename=true, file_row_number=true) GROUP BY filename HAVING "
                    "min(dataset_id) = max(dataset_id) AND min(name) = max(name) AND "
                    "min(version) = max(version) AND min(created_at) = max(created_at) AND "
                    "min(schema_json) IS NOT DISTINCT FROM max(schema_json) AND "
                    "min(row_count) IS NOT DISTINCT FROM max(row_count)"));
    lh_buf_append_char(out, '\0');
}

/* What a file says, as long as it is about whom it should be. */
static void take_manifest(struct lh_catalog_file *file, struct lh_str text)
{
    struct lh_manifest *manifest;
    struct lh_error error;
    if (lh_manifest_read(text, &manifest, &error) != LH_OK) {
        lh_error_set(&file->error, LH_CORRUPT, "%s", error.text);
    } else if (!lh_str_eq(manifest->name, file->name) || manifest->version != file->version) {
        lh_error_set(&file->error, LH_CORRUPT, "it is version %" PRIu64 " of \"%.*s\"",
                     manifest->version, LH_STR_FMT(manifest->name));
        lh_manifest_destroy(manifest);
    } else {
        file->manifest = manifest;
    }
}

static enum lh_status take_row(struct lh_catalog_file *list, const char *const *paths,
                               uint32_t count, struct lh_str row, struct lh_error *error)
{
    struct lh_json_doc *doc;
    struct lh_json root, value;
    struct lh_str path, text;
    enum lh_status status = lh_json_doc_create(row, &doc, &root, error);
    if (status != LH_OK)
        return status;
    struct lh_json_iter iter = lh_json_elements(root);
    if (lh_json_next(&iter, &value) && lh_json_as_str(value, &path) &&
        lh_json_next(&iter, &value) && lh_json_as_str(value, &text)) {
        for (uint32_t i = 0; i < count; i++)
            if (lh_str_eq(path, lh_str_of(paths[i])))
                take_manifest(&list[i], text);
    }
    lh_json_doc_destroy(doc);
    return LH_OK;
}

static enum lh_status fetch(struct lh_sql_query *query, struct lh_catalog_file *list,
                            const char *const *paths, uint32_t count, struct lh_error *error)
{
    struct lh_buf row = LH_BUF_EMPTY;
    enum lh_status status;
    uint64_t rows;
    while ((status = lh_sql_fetch(query, &rows, error)) == LH_OK && rows > 0) {
        for (uint64_t i = 0; i < rows && status == LH_OK; i++) {
            row.len = 0;
            lh_sql_append_row_array(query, i, &row);
            status = lh_buf_failed(&row)
                         ? lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for manifests")
                         : take_row(list, paths, count, lh_buf_str(&row), error);
        }
        if (status != LH_OK)
            break;
    }
    lh_buf_deinit(&row);
    return status;
}

/* One statement for all of them. */
static enum lh_status query(struct lh_catalog_files *files, struct lh_catalog_file *list,
                            const char *const *paths, uint32_t count, struct lh_error *error)
{
    static const struct lh_sql_gate gate = {.is_table = is_manifests};
    struct lh_buf text = LH_BUF_EMPTY;
    struct lh_sql_query *running;
    struct lh_sql_fault fault;
    enum lh_status status;
    append_view(paths, count, &text);
    if (lh_buf_failed(&text))
        status = lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for manifests");
    else
        status = lh_sql_execute(files->session, text.ptr, error);
    lh_buf_deinit(&text);
    if (status == LH_OK)
        status = lh_sql_start(files->session, &gate, LH_STR("SELECT * FROM manifests"), NULL,
                              &running, &fault, error);
    if (status != LH_OK)
        return status;
    status = fetch(running, list, paths, count, error);
    lh_sql_finish(running);
    return status;
}

static enum lh_status query_each(struct lh_catalog_files *files, struct lh_catalog_file *list,
                                 const char *const *paths, uint32_t count, struct lh_error *error)
{
    enum lh_status status = query(files, list, paths, count, error);
    if (status == LH_OK)
        return status;
    for (uint32_t i = 0; i < count; i++) {
        lh_manifest_destroy(list[i].manifest);
        list[i].manifest = NULL;
        list[i].error = (struct lh_error){.status = LH_OK};
        status = query(files, &list[i], &paths[i], 1, error);
        if (status == LH_OUT_OF_MEMORY)
            return status;
        if (status != LH_OK)
            lh_error_set(&list[i].error, LH_CORRUPT, "%s", error->text);
    }
    return LH_OK;
}

enum lh_status lh_catalog_files_read(struct lh_catalog_files *files, struct lh_catalog_file *list,
                                     uint32_t count, struct lh_error *error)
{
    char(*paths)[PATH_BYTES_MAX] = calloc(count, sizeof *paths);
    const char **names = calloc(count, sizeof *names);
    uint32_t saved = 0;
    enum lh_status status = LH_OUT_OF_MEMORY;
    if (paths == NULL || names == NULL)
        lh_error_set(error, status, "not enough memory for manifests");
    else
        status = connect(files, error);
    for (; saved < count && status == LH_OK; saved++) {
        list[saved].manifest = NULL;
        list[saved].error = (struct lh_error){.status = LH_OK};
        make_path(files, paths[saved]);
        names[saved] = paths[saved];
        status = save(paths[saved], lh_buf_str(&list[saved].bytes), error);
    }
    if (status == LH_OK)
        status = query_each(files, list, names, count, error);
    for (uint32_t i = 0; i < saved; i++)
        unlink(paths[i]);
    for (uint32_t i = 0; i < count; i++) {
        lh_buf_deinit(&list[i].bytes);
        if (status == LH_OK && list[i].manifest == NULL && list[i].error.status == LH_OK)
            lh_error_set(&list[i].error, LH_CORRUPT, "it has no rows, or they contradict another");
    }
    free(names);
    free(paths);
    return status;
}
