/* Rows on their way to the loop: as JSON, NDJSON or CSV as they come, or as one Parquet file. A
 * query worker's thread. */
#include "actors/query_worker.h"

#include "actors/query_cache.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PIECE_BYTES (256u << 10) /* as much as the loop sends before it waits */

static void append_header(const struct lh_query *query, struct lh_sql_query *sql,
                          struct lh_buf *out)
{
    if (query->format == LH_QUERY_CSV)
        lh_sql_append_header_csv(sql, out);
    if (query->format != LH_QUERY_JSON)
        return;
    lh_buf_printf(out, "{\"query_id\":\"%s\",\"columns\":", query->id);
    lh_sql_append_columns(sql, out);
    lh_buf_append_str(out, LH_STR(",\"rows\":["));
}

static void append_row(const struct lh_query *query, struct lh_sql_query *sql, uint64_t row,
                       struct lh_buf *out)
{
    switch (query->format) {
    case LH_QUERY_JSON:
        if (query->statistics.rows > 0)
            lh_buf_append_char(out, ',');
        lh_sql_append_row_array(sql, row, out);
        return;
    case LH_QUERY_NDJSON:
        lh_sql_append_row_object(sql, row, out);
        lh_buf_append_char(out, '\n');
        return;
    case LH_QUERY_CSV:
        lh_sql_append_row_csv(sql, row, out);
        return;
    case LH_QUERY_PARQUET:
        assert(!"Parquet is written as a file");
    }
}

/* Sends rows until their end; the last piece, not yet sent, comes into `last`. */
enum lh_status lh_query_send_rows(struct lh_query_worker *worker, struct lh_sql_query *sql,
                                  struct lh_query_piece **last, struct lh_error *error)
{
    struct lh_query *query = worker->query;
    struct lh_query_piece *piece = *last;
    uint64_t sent = 0, rows;
    bool is_unwanted = false;
    enum lh_status status;
    append_header(query, sql, &piece->bytes);
    while ((status = lh_sql_fetch(sql, &rows, error)) == LH_OK && rows > 0) {
        lh_counter_set(&query->rows_done, query->statistics.rows);
        for (uint64_t i = 0; i < rows; i++) {
            if (query->statistics.rows == query->rows_max ||
                sent + piece->bytes.len >= query->bytes_max) {
                query->statistics.is_truncated = true;
                return LH_OK;
            }
            append_row(query, sql, i, &piece->bytes);
            query->statistics.rows++;
            if (piece->bytes.len < PIECE_BYTES)
                continue;
            if (lh_buf_failed(&piece->bytes))
                return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for the rows");
            sent += piece->bytes.len;
            lh_query_send(worker, query, piece);
            *last = piece = lh_query_take_piece(worker, &is_unwanted);
            if (is_unwanted)
                return lh_error_set(error, LH_CLOSED, "nobody takes the rows");
        }
    }
    return status;
}

/* ---- Parquet ---- */

static enum lh_status send_file(struct lh_query_worker *worker, int file,
                                struct lh_query_piece **last, struct lh_error *error)
{
    bool is_unwanted = false;
    for (;;) {
        struct lh_buf *bytes = &(*last)->bytes;
        if (lh_buf_reserve(bytes, PIECE_BYTES) != LH_OK)
            return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for the answer");
        ssize_t got = read(file, bytes->ptr, PIECE_BYTES);
        if (got < 0)
            return lh_error_sys(error, LH_IO, errno, "the answer's file cannot be read");
        bytes->len = (size_t)got;
        if (got < (ssize_t)PIECE_BYTES)
            return LH_OK;
        lh_query_send(worker, worker->query, *last);
        *last = lh_query_take_piece(worker, &is_unwanted);
        if (is_unwanted)
            return lh_error_set(error, LH_CLOSED, "nobody takes the rows");
    }
}

enum lh_status lh_query_send_parquet(struct lh_query_worker *worker, const struct lh_sql_gate *gate,
                                     const struct lh_query_asked *asked,
                                     struct lh_query_piece **last, struct lh_sql_fault *fault,
                                     struct lh_error *error)
{
    struct lh_query *query = worker->query;
    struct lh_sql_written written = {0};
    char path[PATH_MAX];
    /* Named as downloads are: what a crash leaves is removed at the next start. */
    if (snprintf(path, sizeof path, "%s" LH_QUERY_PARTIAL "%s.parquet",
                 worker->tables.options.folder, worker->name) >= (int)sizeof path)
        return lh_error_set(error, LH_IO, "queryd.cache_dir: the path is too long");
    enum lh_status status = lh_sql_write_parquet(
        worker->session, gate, asked->text, asked->has_params ? &asked->params : NULL, path,
        query->rows_max, query->bytes_max, &written, fault, error);
    query->statistics.rows = written.rows;
    query->statistics.is_truncated = written.is_truncated;
    int file = status == LH_OK ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (status == LH_OK && file < 0)
        status = lh_error_sys(error, LH_IO, errno, "the answer's file cannot be read");
    (void)unlink(path);
    if (status == LH_OK)
        status = send_file(worker, file, last, error);
    if (file >= 0)
        close(file);
    return status;
}
