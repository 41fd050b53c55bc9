/* Rows of a query into an index: POST /vectors/index/{name}/import. A query worker's thread.
 *
 * Rows become lines of NDJSON and are read as those of any client are, so an item means the same
 * whichever way it comes. They are added as they come, batch by batch, like an NDJSON body: what
 * was applied before an error stays. */
#include "actors/query_import.h"

#include "base/clock.h"
#include "sql/items.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct import {
    struct lh_query_worker *worker;
    struct lh_buf lines; /* that wait to be added */
    uint64_t rows;       /* of the query, so far */
    uint64_t applied;    /* of them */
    uint64_t added;
    uint64_t updated;
    char index_uuid[37]; /* what the first batch met: one that is made anew is another */
};

/* "line 12: ..." is about a row here. */
static enum lh_status tell(const struct import *import, const struct lh_error *why,
                           struct lh_error *error)
{
    bool has_line = strncmp(why->text, "line ", 5) == 0;
    struct lh_error told = *why;
    return lh_error_set(error, why->status, "%s%.110s; %" PRIu64 " rows were applied before",
                        has_line ? "row " : "", told.text + (has_line ? 5 : 0), import->applied);
}

/* Adds one batch of the lines from `offset` on, and moves it. */
static enum lh_status add_batch(struct import *import, struct lh_request *request, size_t *offset,
                                struct lh_error *error)
{
    struct lh_query_worker *worker = import->worker;
    struct lh_ndjson_piece *piece = &request->piece;
    piece->line = import->applied + 1;
    enum lh_status status =
        lh_decode_ndjson(worker->decoder, &import->lines, *offset, true, piece->line,
                         &request->batch, &piece->consumed, &piece->lines, error);
    if (status == LH_OK)
        status = lh_request_hash(request);
    if (status != LH_OK)
        return status;
    status = lh_vector_client_call(&worker->client, request);
    import->added += request->counts.added;
    import->updated += request->counts.updated;
    if (status != LH_OK) {
        import->applied += request->counts.added + request->counts.updated;
        *error = request->error;
        return status;
    }
    import->applied += piece->lines;
    *offset += piece->consumed;
    return LH_OK;
}

/* The same over HTTP: all lines at once. */
static enum lh_status flush_remote(struct import *import, struct lh_error *error)
{
    static const char *const names[] = {"commit", "interval", "none"};
    const struct lh_query *query = import->worker->query;
    struct lh_error why;
    uint64_t added, updated;
    if (import->lines.len == 0)
        return LH_OK;
    enum lh_status status = lh_query_vectors_add_remote(
        import->worker->vectors.http, lh_str_of(query->index_name), names[query->durability],
        lh_buf_str(&import->lines), &added, &updated, &why);
    if (status != LH_OK)
        return lh_error_set(error, status, "of the rows behind %" PRIu64 ", %.120s",
                            import->applied, why.text);
    import->lines.len = 0;
    import->added += added;
    import->updated += updated;
    import->applied = import->rows;
    return LH_OK;
}

/* Adds all lines that wait. */
static enum lh_status flush(struct import *import, struct lh_error *error)
{
    const struct lh_query *query = import->worker->query;
    enum lh_status status = LH_OK;
    if (import->worker->vectors.http != NULL)
        return flush_remote(import, error);
    size_t offset = 0;
    while (offset < import->lines.len && status == LH_OK) {
        struct lh_request *request = lh_request_create(LH_OP_NDJSON);
        if (request == NULL)
            return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for a batch");
        memcpy(request->index_name, query->index_name, sizeof request->index_name);
        memcpy(request->piece.index_uuid, import->index_uuid, sizeof import->index_uuid);
        request->durability = query->durability;
        status = add_batch(import, request, &offset, error);
        memcpy(import->index_uuid, request->piece.index_uuid, sizeof import->index_uuid);
        lh_request_destroy(request);
    }
    import->lines.len = 0;
    return status;
}

static enum lh_status append_row(struct import *import, struct lh_sql_query *sql,
                                 const struct lh_sql_item_columns *columns, uint64_t row,
                                 struct lh_error *error)
{
    struct lh_error why;
    enum lh_status status = lh_sql_append_item(sql, columns, row, &import->lines, &why);
    import->rows++;
    if (status != LH_OK)
        return lh_error_set(error, status, "line %" PRIu64 ": %.100s", import->rows, why.text);
    return import->lines.len >= LH_NDJSON_PIECE_BYTES ? flush(import, error) : LH_OK;
}

static enum lh_status import_rows(struct import *import, struct lh_sql_query *sql,
                                  const struct lh_sql_item_columns *columns, struct lh_error *error)
{
    enum lh_status status;
    uint64_t rows;
    while ((status = lh_sql_fetch(sql, &rows, error)) == LH_OK && rows > 0) {
        for (uint64_t row = 0; row < rows && status == LH_OK; row++)
            status = append_row(import, sql, columns, row, error);
        if (status == LH_OK)
            status = flush(import, error); /* a client that watches sees it grow */
        if (status != LH_OK)
            return status;
        lh_counter_set(&import->worker->query->rows_done, import->applied);
    }
    return status;
}

static void append_answer(const struct import *import, struct lh_buf *out)
{
    const struct lh_query *query = import->worker->query;
    lh_buf_printf(out,
                  "{\"query_id\":\"%s\",\"rows\":%" PRIu64 ",\"added\":%" PRIu64
                  ",\"updated\":%" PRIu64 ",\"elapsed_ms\":%.3f}\n",
                  query->id, import->rows, import->added, import->updated,
                  (double)(lh_clock_ns() - query->started_ns) / 1e6);
}

enum lh_status lh_query_import(struct lh_query_worker *worker, struct lh_sql_query *sql,
                               struct lh_buf *out, struct lh_error *error)
{
    struct import import = {.worker = worker};
    struct lh_sql_item_columns columns;
    struct lh_error why;
    if (worker->vectors.client == NULL && worker->vectors.http == NULL)
        return lh_error_set(error, LH_NOT_IMPLEMENTED,
                            "there is no vector service here, and no queryd.vectord_url");
    enum lh_status status = lh_sql_find_item_columns(sql, &columns, error);
    if (status == LH_OK && worker->decoder == NULL)
        status = lh_decoder_create(&worker->decoder);
    if (status != LH_OK)
        return status;
    status = import_rows(&import, sql, &columns, &why);
    lh_buf_deinit(&import.lines);
    worker->query->statistics.rows = import.applied;
    if (status != LH_OK)
        return tell(&import, &why, error);
    append_answer(&import, out);
    return LH_OK;
}
