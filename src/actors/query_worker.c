/* Query workers. Each runs on a thread of its own, and blocks: in DuckDB, and for a piece to come
 * back from the loop.
 *
 * Two pieces carry the rows, so one fills while the other is sent, and a client that reads slowly
 * holds up its query and nobody else's, at bounded memory. The first piece is not sent before it is
 * full or the rows are at their end: an error among them is still an answer of its own. */
#include "actors/query_worker.h"

#include "actors/query_import.h"
#include "base/clock.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_BYTES (256u << 10) /* as much as the loop sends before it waits */

struct lh_query *lh_query_create(void)
{
    struct lh_query *query = calloc(1, sizeof *query);
    if (query != NULL)
        query->head = (struct lh_msg){.type = LH_MSG_QUERY, .lane = LH_LANE_BULK};
    return query;
}

void lh_query_destroy(struct lh_query *query)
{
    lh_buf_deinit(&query->body);
    lh_reach_deinit(&query->reach);
    for (uint32_t i = 0; i < query->held_count; i++)
        lh_buf_deinit(&query->held[i]);
    free(query);
}

/* ---- pieces ---- */

/* The next free piece; waits for one. NULL: nobody wants more. */
static struct lh_query_piece *take_piece(struct lh_query_worker *worker, bool *is_unwanted)
{
    while (worker->free_pieces.first == NULL && lh_actor_wait(&worker->actor)) {
        struct lh_msg *msg;
        while ((msg = lh_actor_next(&worker->actor)) != NULL) {
            struct lh_query_piece *piece = (struct lh_query_piece *)msg;
            assert(msg->type == LH_MSG_QUERY_PIECE); /* one query at a time */
            *is_unwanted |= piece->is_unwanted;
            lh_msg_queue_put(&worker->free_pieces, msg);
        }
    }
    struct lh_query_piece *piece = (struct lh_query_piece *)lh_msg_queue_take(&worker->free_pieces);
    assert(piece != NULL); /* the loop gives every piece back before it ends */
    piece->is_last = false;
    piece->is_unwanted = false;
    piece->bytes.len = 0;
    piece->error = (struct lh_error){.status = LH_OK};
    return piece;
}

static void send(struct lh_query_worker *worker, struct lh_query *query,
                 struct lh_query_piece *piece)
{
    piece->head.lane = LH_LANE_BULK;
    piece->query = query;
    enum lh_status status = lh_mailbox_push(worker->loop, &piece->head);
    assert(status == LH_OK); /* the workers stop after the loop */
    (void)status;
}

/* ---- what is asked ---- */

struct asked {
    struct lh_json_doc *doc;
    struct lh_str text;
    struct lh_json params;
    bool has_params;
};

static enum lh_status read_limit(struct lh_json root, const char *name, uint64_t *limit,
                                 struct lh_error *error)
{
    struct lh_json value;
    uint64_t number;
    if (!lh_json_get(root, name, &value))
        return LH_OK;
    if (!lh_json_get_u64(root, name, &number))
        return lh_error_set(error, LH_INVALID_ARGUMENT, "%s: not a positive integer", name);
    if (number < *limit)
        *limit = number;
    return LH_OK;
}

static enum lh_status read_members(struct lh_query *query, struct lh_json root, struct asked *asked,
                                   struct lh_error *error)
{
    static const char *const known[] = {"sql", "params", "max_rows", "max_bytes", "timeout_ms"};
    struct lh_json value;
    struct lh_str name;
    uint64_t timeout_ms = (lh_counter_get(&query->deadline_ns) - query->started_ns) / 1000000;
    for (struct lh_json_iter iter = lh_json_members(root); lh_json_member(&iter, &name, &value);) {
        bool is_known = false;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            is_known |= lh_str_eq(name, lh_str_of(known[i]));
        if (!is_known)
            return lh_error_set(error, LH_INVALID_ARGUMENT, "%.*s: unknown field",
                                (int)(name.len < 60 ? name.len : 60), name.ptr);
    }
    if (!lh_json_get_str(root, "sql", &asked->text))
        return lh_error_set(error, LH_INVALID_ARGUMENT, "sql: a statement as a string is needed");
    asked->has_params = lh_json_get(root, "params", &asked->params);
    if (asked->has_params && !lh_json_is_array(asked->params))
        return lh_error_set(error, LH_INVALID_ARGUMENT, "params: not an array");
    enum lh_status status = read_limit(root, "max_rows", &query->rows_max, error);
    if (status == LH_OK)
        status = read_limit(root, "max_bytes", &query->bytes_max, error);
    if (status == LH_OK)
        status = read_limit(root, "timeout_ms", &timeout_ms, error);
    if (status == LH_OK)
        lh_counter_set(&query->deadline_ns, query->started_ns + timeout_ms * 1000000);
    return status;
}

static enum lh_status read_asked(struct lh_query *query, struct asked *asked,
                                 struct lh_error *error)
{
    struct lh_json root;
    *asked = (struct asked){.text = lh_buf_str(&query->body)};
    if (query->is_text)
        return LH_OK;
    enum lh_status status = lh_json_doc_create(asked->text, &asked->doc, &root, error);
    if (status != LH_OK)
        return status;
    if (!lh_json_is_object(root))
        return lh_error_set(error, LH_INVALID_ARGUMENT, "the body is not a JSON object");
    return read_members(query, root, asked, error);
}

/* ---- rows ---- */

static void append_header(const struct lh_query *query, struct lh_sql_query *sql,
                          struct lh_buf *out)
{
    if (query->format == LH_QUERY_CSV)
        lh_sql_append_header_csv(sql, out);
    if (query->format != LH_QUERY_JSON)
        return;
    lh_buf_printf(out, "{\"query_id\":\"%s\",\"columns\":[", query->id);
    for (uint32_t i = 0; i < lh_sql_column_count(sql); i++) {
        lh_buf_append_str(out, i > 0 ? LH_STR(",{\"name\":") : LH_STR("{\"name\":"));
        lh_buf_append_json_string(out, lh_str_of(lh_sql_column_name(sql, i)));
        lh_buf_append_str(out, LH_STR(",\"type\":"));
        lh_buf_append_json_string(out, lh_str_of(lh_sql_column_type(sql, i)));
        lh_buf_append_char(out, '}');
    }
    lh_buf_append_str(out, LH_STR("],\"rows\":["));
}

static void append_row(const struct lh_query *query, struct lh_sql_query *sql, uint64_t row,
                       struct lh_buf *out)
{
    switch (query->format) {
    case LH_QUERY_JSON:
        if (query->row_count > 0)
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
    }
}

static void append_end(const struct lh_query *query, uint64_t cpu_ns, struct lh_buf *out)
{
    if (query->format != LH_QUERY_JSON)
        return;
    lh_buf_printf(out,
                  "],\"row_count\":%" PRIu64 ",\"truncated\":%s,\"elapsed_ms\":%.3f,"
                  "\"statistics\":{\"rows\":%" PRIu64 ",\"cpu_ms\":%.3f}}\n",
                  query->row_count, query->is_truncated ? "true" : "false",
                  (double)(lh_clock_ns() - query->started_ns) / 1e6, query->row_count,
                  (double)cpu_ns / 1e6);
}

/* Sends rows until their end; the last piece, not yet sent, comes into `last`. */
static enum lh_status send_rows(struct lh_query_worker *worker, struct lh_sql_query *sql,
                                struct lh_query_piece **last, struct lh_error *error)
{
    struct lh_query *query = worker->query;
    struct lh_query_piece *piece = *last;
    uint64_t sent = 0, rows;
    bool is_unwanted = false;
    enum lh_status status;
    append_header(query, sql, &piece->bytes);
    while ((status = lh_sql_fetch(sql, &rows, error)) == LH_OK && rows > 0) {
        lh_counter_set(&query->rows_done, query->row_count);
        for (uint64_t i = 0; i < rows; i++) {
            if (query->row_count == query->rows_max ||
                sent + piece->bytes.len >= query->bytes_max) {
                query->is_truncated = true;
                return LH_OK;
            }
            append_row(query, sql, i, &piece->bytes);
            query->row_count++;
            if (piece->bytes.len < PIECE_BYTES)
                continue;
            if (lh_buf_failed(&piece->bytes))
                return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for the rows");
            sent += piece->bytes.len;
            send(worker, query, piece);
            *last = piece = take_piece(worker, &is_unwanted);
            if (is_unwanted)
                return lh_error_set(error, LH_CLOSED, "nobody takes the rows");
        }
    }
    return status;
}

/* "statement, byte 14: ...", where the place is known. */
static void place(struct lh_error *error, const struct lh_sql_fault *fault)
{
    char text[sizeof error->text];
    if (!fault->has_offset)
        return;
    memcpy(text, error->text, sizeof text);
    lh_error_set(error, error->status, "sql, byte %" PRIu64 ": %.120s", fault->offset, text);
}

/* The first query opens the session, and the loop is told: it can be interrupted from then on. */
static enum lh_status connect(struct lh_query_worker *worker, struct lh_error *error)
{
    bool is_unwanted = false;
    if (worker->session != NULL)
        return LH_OK;
    enum lh_status status = lh_sql_session_create(worker->sql, &worker->session, error);
    const struct lh_sql_vectors vectors = lh_query_vectors_provider(&worker->vectors);
    if (status == LH_OK)
        lh_sql_session_set_vectors(worker->session, &vectors);
    if (status == LH_OK)
        send(worker, NULL, take_piece(worker, &is_unwanted));
    return status;
}

static bool has_no_table(struct lh_str name, void *arg)
{
    return false;
}

static enum lh_status run(struct lh_query_worker *worker, struct lh_query_piece **last,
                          struct lh_error *error)
{
    struct lh_sql_gate gate = {.is_table = has_no_table, .arg = worker};
    struct lh_query *query = worker->query;
    struct lh_sql_fault fault = {0};
    struct lh_sql_query *sql;
    struct asked asked;
    uint64_t cpu_ns = lh_clock_thread_cpu_ns();
    enum lh_status status = connect(worker, error);
    if (status != LH_OK)
        return status;
    status = read_asked(query, &asked, error);
    if (status == LH_OK) {
        status = lh_sql_start(worker->session, &gate, asked.text,
                              asked.has_params ? &asked.params : NULL, &sql, &fault, error);
        place(error, &fault);
    }
    if (asked.doc != NULL)
        lh_json_doc_destroy(asked.doc);
    if (status != LH_OK)
        return status;
    bool is_import = query->index_name[0] != '\0';
    if (is_import)
        status = lh_query_import(worker, sql, &(*last)->bytes, error);
    else
        status = send_rows(worker, sql, last, error);
    lh_sql_finish(sql);
    if (status == LH_OK && !is_import)
        append_end(query, lh_clock_thread_cpu_ns() - cpu_ns, &(*last)->bytes);
    if (status == LH_OK && lh_buf_failed(&(*last)->bytes))
        status = lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for the rows");
    return status;
}

static void handle(struct lh_query_worker *worker, struct lh_query *query)
{
    bool is_unwanted = false;
    struct lh_error error = {.status = LH_OK};
    uint64_t started = lh_clock_ns();
    worker->query = query;
    worker->vectors.reach = &query->reach;
    worker->vectors.status = LH_OK;
    struct lh_query_piece *last = take_piece(worker, &is_unwanted);
    enum lh_status status = run(worker, &last, &error);
    last->is_last = true;
    if (status != LH_OK) {
        last->error = error;
        if (status == LH_INVALID_SQL && worker->vectors.status != LH_OK)
            last->error.status = worker->vectors.status; /* DuckDB hands on its text alone */
        lh_counter_add(&worker->metrics.errors, 1);
    }
    lh_counter_add(&worker->metrics.queries, 1);
    lh_counter_add(&worker->metrics.rows, query->row_count);
    lh_counter_add(&worker->metrics.busy_ns, lh_clock_ns() - started);
    if (worker->session != NULL)
        lh_sql_resume(worker->session);
    worker->query = NULL;
    send(worker, query, last);
}

static void run_actor(void *self)
{
    struct lh_query_worker *worker = self;
    struct lh_msg *msg;
    while (lh_actor_wait(&worker->actor)) {
        while ((msg = lh_actor_next(&worker->actor)) != NULL) {
            if (msg->type == LH_MSG_QUERY_PIECE)
                lh_msg_queue_put(&worker->free_pieces, msg);
            else
                handle(worker, (struct lh_query *)msg);
        }
    }
}

void lh_query_worker_init(struct lh_query_worker *worker, uint32_t number, struct lh_sql *sql,
                          struct lh_actor *vectord, struct lh_mailbox *loop)
{
    *worker = (struct lh_query_worker){.loop = loop, .sql = sql};
    lh_vector_client_init(&worker->client, vectord);
    worker->vectors.client = vectord != NULL ? &worker->client : NULL;
    snprintf(worker->name, sizeof worker->name, "query-%u", number);
    lh_actor_init(&worker->actor, worker->name, run_actor, worker);
    for (uint32_t i = 0; i < LH_QUERY_PIECES; i++) {
        worker->pieces[i].head = (struct lh_msg){.type = LH_MSG_QUERY_PIECE, .lane = LH_LANE_BULK};
        worker->pieces[i].worker = worker;
        lh_msg_queue_put(&worker->free_pieces, &worker->pieces[i].head);
    }
}

void lh_query_worker_deinit(struct lh_query_worker *worker)
{
    if (worker->session != NULL)
        lh_sql_session_destroy(worker->session);
    for (uint32_t i = 0; i < LH_QUERY_PIECES; i++)
        lh_buf_deinit(&worker->pieces[i].bytes);
    if (worker->decoder != NULL)
        lh_decoder_destroy(worker->decoder);
    lh_vector_client_deinit(&worker->client);
    lh_actor_deinit(&worker->actor);
}
