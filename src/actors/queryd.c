/* The query service on the loop: which query runs where, what of its rows the client has room for,
 * and when it has to end.
 *
 * The loop alone gives queries to workers, so it knows which query a worker runs, and an interrupt
 * of the worker's session can never hit the next one. Everything a query holds is bounded: two
 * pieces of rows here or with its worker, and a client that does not read has its worker back as
 * soon as the rows are at their end. */
#include "actors/queryd.h"

#include "actors/gateway.h"
#include "base/clock.h"
#include <assert.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IMPORT_NS_MAX (24ull * 3600 * 1000000000) /* or what its body says; it can be cancelled */

#define WAITING_A_WORKER 16u /* queries that may wait for each; the next is told to try again */

/* ---- ends ---- */

static void give_back(struct lh_query_worker *worker, struct lh_query_piece *piece,
                      bool is_unwanted)
{
    piece->is_unwanted = is_unwanted;
    piece->head.lane = LH_LANE_BULK;
    enum lh_status status = lh_actor_send(&worker->actor, &piece->head);
    assert(status == LH_OK); /* the workers stop after the loop */
    (void)status;
}

static void dispatch(struct lh_queryd *queryd)
{
    for (uint32_t i = 0; i < queryd->worker_count && queryd->waiting.first != NULL; i++) {
        struct lh_query_worker *worker = &queryd->workers[i];
        if (worker->is_taken)
            continue;
        struct lh_query *query = (struct lh_query *)lh_msg_queue_take(&queryd->waiting);
        worker->is_taken = true;
        query->worker = worker;
        enum lh_status status = lh_actor_send(&worker->actor, &query->head);
        assert(status == LH_OK);
        (void)status;
    }
}

/* What is held is dropped; its pieces go back. */
static void drop_held(struct lh_query *query)
{
    for (uint32_t i = 0; i < query->held_count; i++) {
        lh_buf_deinit(&query->held[i]);
        if (query->pieces[i] != NULL)
            give_back(query->worker, query->pieces[i], true);
    }
    query->held_count = 0;
}

static void destroy(struct lh_queryd *queryd, struct lh_query *query)
{
    struct lh_query **link = &queryd->queries;
    assert(query->worker == NULL);
    while (*link != query)
        link = &(*link)->next;
    *link = query->next;
    lh_http_server_body_done(queryd->http, query->body_bytes);
    lh_query_destroy(query);
}

static void answer_error(const struct lh_query *query, struct lh_http_call *call)
{
    query->is_begun ? lh_http_answer_abort(call) : lh_http_answer_error(call, &query->error);
}

/* Makes what a worker does for the query end soon. Its last piece still comes; the client does not
 * wait for it, as the worker may be in a function that nothing interrupts. */
static void end(struct lh_query *query, enum lh_status status, const char *why)
{
    struct lh_http_call *call = lh_http_find(query->queryd->http, query->ticket);
    if (query->error.status == LH_OK)
        lh_error_set(&query->error, status, "%s", why);
    if (query->worker == NULL)
        return;
    if (query->worker->is_connected)
        lh_sql_interrupt(query->worker->session);
    drop_held(query);
    if (call != NULL)
        answer_error(query, call);
}

/* ---- to the client ---- */

static const char *media_type(enum lh_query_format format)
{
    switch (format) {
    case LH_QUERY_NDJSON:
        return "application/x-ndjson";
    case LH_QUERY_CSV:
        return "text/csv; charset=utf-8; header=present";
    case LH_QUERY_PARQUET:
        return "application/vnd.apache.parquet";
    default:
        return "application/json";
    }
}

static const char trailers[] = "X-Row-Count, X-Truncated, X-Bytes-Read, X-Elapsed-Ms, X-Cpu-Ms";

/* What JSON has in its body, the others have in headers, or in trailers where it comes too late. */
static void add_statistics(const struct lh_query *query, struct lh_http_call *call)
{
    const struct lh_query_statistics *statistics = &query->statistics;
    double elapsed_ms = (double)(lh_clock_ns() - query->started_ns) / 1e6;
    char text[32];
    if (query->kind != LH_QUERY_ROWS || query->format == LH_QUERY_JSON)
        return;
    snprintf(text, sizeof text, "%" PRIu64, statistics->rows);
    lh_http_call_add_header(call, "X-Row-Count", text);
    lh_http_call_add_header(call, "X-Truncated", statistics->is_truncated ? "true" : "false");
    snprintf(text, sizeof text, "%" PRIu64, statistics->bytes_read);
    lh_http_call_add_header(call, "X-Bytes-Read", text);
    snprintf(text, sizeof text, "%.3f", elapsed_ms);
    lh_http_call_add_header(call, "X-Elapsed-Ms", text);
    snprintf(text, sizeof text, "%.3f", (double)statistics->cpu_ns / 1e6);
    lh_http_call_add_header(call, "X-Cpu-Ms", text);
}

static void finish_well(struct lh_query *query, struct lh_http_call *call)
{
    add_statistics(query, call);
    if (query->is_begun) {
        lh_http_answer_end(call);
        return;
    }
    lh_http_call_add_header(call, "X-Query-Id", query->id);
    lh_http_answer(call, 200, media_type(query->format), &query->held[0]);
}

static void finish(struct lh_queryd *queryd, struct lh_query *query, struct lh_http_call *call)
{
    if (call != NULL) {
        if (query->error.status != LH_OK)
            answer_error(query, call);
        else
            finish_well(query, call);
    }
    destroy(queryd, query);
}

/* Sends what the client has room for, and finishes what is at its end. */
static void advance(struct lh_queryd *queryd, struct lh_query *query)
{
    struct lh_http_call *call = lh_http_find(queryd->http, query->ticket);
    if (call == NULL || query->error.status != LH_OK) {
        end(query, LH_CLOSED, "the client went away");
        if (query->is_complete)
            finish(queryd, query, call);
        return;
    }
    if (query->is_complete && !query->is_begun && query->held_count <= 1) {
        finish(queryd, query, call); /* whole, with its length */
        return;
    }
    if (!query->is_begun)
        return;
    if (query->wants_piece && query->held_count > 0) {
        query->wants_piece = false;
        lh_http_answer_piece(call, &query->held[0]);
        lh_buf_deinit(&query->held[0]);
        if (query->pieces[0] != NULL)
            give_back(query->worker, query->pieces[0], false);
        query->held_count--;
        query->held[0] = query->held[1];
        query->pieces[0] = query->pieces[1];
        query->held[1] = (struct lh_buf){0};
    }
    if (query->is_complete && query->held_count == 0)
        finish(queryd, query, call);
}

static void on_ready(struct lh_http_call *call, void *arg)
{
    struct lh_query *query = arg;
    query->wants_piece = true;
    advance(query->queryd, query);
}

static void on_gone(void *arg)
{
    struct lh_query *query = arg;
    advance(query->queryd, query); /* the ticket is dead */
}

static void begin_answer(struct lh_queryd *queryd, struct lh_query *query)
{
    struct lh_http_call *call = lh_http_find(queryd->http, query->ticket);
    if (query->is_begun || query->is_complete || call == NULL || query->error.status != LH_OK)
        return;
    query->is_begun = true;
    lh_http_call_add_header(call, "X-Query-Id", query->id);
    if (query->format != LH_QUERY_JSON)
        lh_http_call_add_header(call, "Trailer", trailers);
    lh_http_answer_begin(
        call, 200, media_type(query->format), LH_HTTP_LENGTH_UNKNOWN,
        &(struct lh_http_sending){.on_ready = on_ready, .on_gone = on_gone, .arg = query});
}

void lh_queryd_on_piece(struct lh_queryd *queryd, struct lh_query_piece *piece)
{
    struct lh_query *query = piece->query;
    struct lh_query_worker *worker = piece->worker;
    if (query == NULL) {
        worker->is_connected = true;
        give_back(worker, piece, false);
        return;
    }
    bool is_last = piece->is_last;
    assert(query->held_count < LH_QUERY_PIECES);
    query->held[query->held_count] = lh_buf_take(&piece->bytes);
    query->pieces[query->held_count++] = piece;
    if (is_last) {
        if (query->error.status == LH_OK)
            query->error = piece->error;
        for (uint32_t i = 0; i < query->held_count; i++) /* no message: it would wake for nothing */
            lh_msg_queue_put(&worker->resting, &query->pieces[i]->head);
        memset(query->pieces, 0, sizeof query->pieces);
        query->is_complete = true;
        query->worker = NULL;
        worker->is_taken = false;
    }
    if (!is_last || query->held_count > 1)
        begin_answer(queryd, query);
    advance(queryd, query);
    if (is_last)
        dispatch(queryd);
}

/* ---- from the client ---- */

/* The best of what the client accepts; false when it takes none of it. */
static bool choose_format(struct lh_str accept, enum lh_query_format *format)
{
    static const struct {
        struct lh_str type;
        enum lh_query_format format;
    } known[] = {
        {{"application/json", 16}, LH_QUERY_JSON},
        {{"*/*", 3}, LH_QUERY_JSON},
        {{"application/*", 13}, LH_QUERY_JSON},
        {{"application/x-ndjson", 20}, LH_QUERY_NDJSON},
        {{"application/jsonl", 17}, LH_QUERY_NDJSON},
        {{"application/vnd.apache.parquet", 30}, LH_QUERY_PARQUET},
        {{"application/parquet", 19}, LH_QUERY_PARQUET},
        {{"text/csv", 8}, LH_QUERY_CSV},
        {{"text/*", 6}, LH_QUERY_CSV},
    };
    *format = LH_QUERY_JSON;
    if (accept.len == 0)
        return true;
    while (accept.len > 0) { /* in the client's order; weights are not looked at */
        const char *comma = memchr(accept.ptr, ',', accept.len);
        struct lh_str type = {accept.ptr,
                              comma != NULL ? (size_t)(comma - accept.ptr) : accept.len};
        size_t used = comma != NULL ? type.len + 1 : type.len;
        accept = (struct lh_str){accept.ptr + used, accept.len - used};
        const char *semicolon = memchr(type.ptr, ';', type.len);
        if (semicolon != NULL)
            type.len = (size_t)(semicolon - type.ptr);
        type = lh_str_trim(type);
        for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
            if (lh_str_eq_nocase(type, known[i].type)) {
                *format = known[i].format;
                return true;
            }
        }
    }
    return false;
}

static void refuse(struct lh_http_call *call, enum lh_status status, const char *text)
{
    struct lh_error error;
    lh_error_set(&error, status, "%s", text);
    lh_http_answer_error(call, &error);
}

static bool id_is_valid(struct lh_str id)
{
    for (size_t i = 0; i < id.len; i++)
        if (!isalnum((unsigned char)id.ptr[i]) && strchr("-_.", id.ptr[i]) == NULL)
            return false;
    return id.len > 0 && id.len < sizeof((struct lh_query *)NULL)->id;
}

static struct lh_query *find(const struct lh_queryd *queryd, struct lh_str id)
{
    for (struct lh_query *query = queryd->queries; query != NULL; query = query->next)
        if (query->error.status == LH_OK && lh_str_eq(lh_str_of(query->id), id))
            return query; /* and not ending */
    return NULL;
}

/* The id that the client has chosen, by X-Query-Id, or a new one. False: it was answered. */
static bool choose_id(struct lh_queryd *queryd, struct lh_http_call *call, char id[37])
{
    struct lh_str chosen = lh_http_call_header(call, "x-query-id");
    if (chosen.len == 0) {
        lh_query_ids_next(&queryd->ids, id);
        return true;
    }
    if (!id_is_valid(chosen)) {
        refuse(call, LH_INVALID_ARGUMENT,
               "X-Query-Id: 1 to 36 letters, digits, dots, dashes and underscores");
        return false;
    }
    if (find(queryd, chosen) != NULL) {
        refuse(call, LH_INVALID_ARGUMENT, "X-Query-Id: a query with this id runs");
        return false;
    }
    memcpy(id, chosen.ptr, chosen.len);
    id[chosen.len] = '\0';
    return true;
}

/* A query of the call, in no list yet. NULL: it was answered. */
static struct lh_query *make_query(struct lh_gateway *gateway, struct lh_http_call *call)
{
    struct lh_queryd *queryd = gateway->queryd;
    enum lh_query_format format;
    const struct lh_token *token;
    char id[37];
    if (!lh_access_token(gateway->access, call, &token))
        return NULL;
    if (queryd->sql == NULL) {
        lh_http_answer_error(call, &queryd->reason);
        return NULL;
    }
    if (!choose_format(lh_http_call_header(call, "accept"), &format)) {
        refuse(call, LH_NOT_ACCEPTABLE,
               "Accept: application/json, application/x-ndjson, text/csv and "
               "application/vnd.apache.parquet are to be had");
        return NULL;
    }
    if (queryd->waiting.count >= (size_t)queryd->worker_count * WAITING_A_WORKER) {
        queryd->refused++;
        refuse(call, LH_OVERLOADED, "too many queries wait: try again");
        return NULL;
    }
    if (!choose_id(queryd, call, id))
        return NULL;
    struct lh_query *query = lh_query_create();
    if (query != NULL && lh_reach_init(&query->reach, token) != LH_OK) {
        lh_query_destroy(query);
        query = NULL;
    }
    if (query == NULL) {
        refuse(call, LH_OUT_OF_MEMORY, "not enough memory for the query");
        return NULL;
    }
    memcpy(query->id, id, sizeof query->id);
    query->queryd = queryd;
    query->format = format;
    query->ticket = lh_http_call_ticket(call);
    query->started_ns = lh_clock_ns();
    lh_counter_set(&query->deadline_ns, query->started_ns + queryd->timeout_ms * 1000000);
    query->rows_max = queryd->rows_max;
    query->bytes_max = queryd->bytes_max;
    return query;
}

static void start(struct lh_queryd *queryd, struct lh_http_call *call, struct lh_query *query)
{
    if (lh_buf_failed(&query->body) || lh_buf_failed(&query->cursor)) {
        refuse(call, LH_OUT_OF_MEMORY, "not enough memory for the query");
        lh_query_destroy(query);
        return;
    }
    query->next = queryd->queries;
    queryd->queries = query;
    lh_msg_queue_put(&queryd->waiting, &query->head);
    dispatch(queryd);
}

void lh_handle_sql(struct lh_http_call *call, void *context)
{
    struct lh_gateway *gateway = context;
    struct lh_query *query = make_query(gateway, call);
    if (query == NULL)
        return;
    query->body = lh_http_call_take_body(call);
    query->body_bytes = query->body.len;
    start(gateway->queryd, call, query);
}

void lh_handle_sql_text(struct lh_http_call *call, void *context)
{
    struct lh_gateway *gateway = context;
    struct lh_str text;
    if (!lh_http_call_query(call, "q", &text)) {
        refuse(call, LH_INVALID_ARGUMENT, "q: a statement is needed");
        return;
    }
    struct lh_query *query = make_query(gateway, call);
    if (query == NULL)
        return;
    lh_buf_append_str(&query->body, text);
    query->is_text = true;
    start(gateway->queryd, call, query);
}

void lh_handle_import(struct lh_http_call *call, void *context)
{
    struct lh_gateway *gateway = context;
    struct lh_str name = lh_http_call_param(call, 0);
    enum lh_durability durability;
    struct lh_error error;
    if (!lh_index_name_is_valid(name)) {
        lh_error_set(&error, LH_INDEX_NOT_FOUND, "there is no index \"%.*s\"",
                     (int)(name.len < 100 ? name.len : 100), name.ptr);
        lh_http_answer_error(call, &error);
        return;
    }
    if (lh__gateway_durability(gateway, call, &durability, &error) != LH_OK) {
        lh_http_answer_error(call, &error);
        return;
    }
    struct lh_query *query = make_query(gateway, call);
    if (query == NULL)
        return;
    query->kind = LH_QUERY_IMPORT;
    memcpy(query->index_name, name.ptr, name.len);
    query->durability = durability;
    query->format = LH_QUERY_JSON;
    lh_counter_set(&query->deadline_ns, query->started_ns + IMPORT_NS_MAX);
    query->body = lh_http_call_take_body(call);
    query->body_bytes = query->body.len;
    start(gateway->queryd, call, query);
}

/* ---- tables ---- */

#define TABLES_DEFAULT 100u
#define TABLES_MAX     1000u

/* "?limit="; false: answered. */
static bool read_limit(struct lh_http_call *call, uint32_t *limit)
{
    struct lh_str text;
    uint64_t number = TABLES_DEFAULT;
    if (lh_http_call_query(call, "limit", &text) &&
        (!lh_str_to_u64(text, &number) || number < 1 || number > TABLES_MAX)) {
        refuse(call, LH_INVALID_ARGUMENT, "limit: a number from 1 to 1000");
        return false;
    }
    *limit = (uint32_t)number;
    return true;
}

void lh_handle_tables(struct lh_http_call *call, void *context)
{
    struct lh_gateway *gateway = context;
    struct lh_str text;
    uint32_t limit;
    if (!read_limit(call, &limit))
        return;
    struct lh_query *query = make_query(gateway, call);
    if (query == NULL)
        return;
    query->kind = LH_QUERY_TABLES;
    query->format = LH_QUERY_JSON;
    query->limit = limit;
    if (lh_http_call_query(call, "prefix", &text))
        lh_buf_append_str(&query->body, text);
    if (lh_http_call_query(call, "cursor", &text))
        lh_buf_append_str(&query->cursor, text);
    start(gateway->queryd, call, query);
}

void lh_handle_table(struct lh_http_call *call, void *context)
{
    struct lh_gateway *gateway = context;
    struct lh_query *query = make_query(gateway, call);
    if (query == NULL)
        return;
    query->kind = LH_QUERY_TABLE;
    query->format = LH_QUERY_JSON;
    lh_buf_append_str(&query->body, lh_http_call_param(call, 0));
    start(gateway->queryd, call, query);
}

/* ---- queries that run ---- */

void lh_handle_sql_progress(struct lh_http_call *call, void *context)
{
    const struct lh_queryd *queryd = ((struct lh_gateway *)context)->queryd;
    const struct lh_query *query = find(queryd, lh_http_call_param(call, 0));
    struct lh_buf body = LH_BUF_EMPTY;
    if (query == NULL) {
        refuse(call, LH_QUERY_NOT_FOUND, "no query of this id runs");
        return;
    }
    const char *state = query->is_complete ? "sending" : "running";
    lh_buf_printf(
        &body, "{\"query_id\":\"%s\",\"state\":\"%s\",\"rows\":%" PRIu64 ",\"elapsed_ms\":%.3f}\n",
        query->id, query->worker == NULL && !query->is_complete ? "waiting" : state,
        lh_counter_get(&query->rows_done), (double)(lh_clock_ns() - query->started_ns) / 1e6);
    lh_http_answer(call, 200, "application/json", &body);
}

void lh_handle_sql_cancel(struct lh_http_call *call, void *context)
{
    struct lh_queryd *queryd = ((struct lh_gateway *)context)->queryd;
    struct lh_query *query = find(queryd, lh_http_call_param(call, 0));
    if (query == NULL || query->is_complete || query->error.status != LH_OK) {
        refuse(call, LH_QUERY_NOT_FOUND, "no query of this id runs");
        return;
    }
    queryd->cancelled++;
    end(query, LH_CANCELLED, "the query was cancelled");
    lh_http_answer(call, 204, NULL, NULL);
}

/* ---- time ---- */

/* A query that waits for a worker ends at once. */
static void end_waiting(struct lh_queryd *queryd)
{
    struct lh_msg_queue waiting = queryd->waiting;
    queryd->waiting = (struct lh_msg_queue){0};
    struct lh_msg *msg;
    while ((msg = lh_msg_queue_take(&waiting)) != NULL) {
        struct lh_query *query = (struct lh_query *)msg;
        struct lh_http_call *call = lh_http_find(queryd->http, query->ticket);
        if (call != NULL && query->error.status == LH_OK)
            lh_msg_queue_put(&queryd->waiting, msg);
        else
            finish(queryd, query, call);
    }
}

void lh_queryd_on_tick(struct lh_queryd *queryd, bool is_stopping)
{
    uint64_t now = lh_clock_ns();
    for (struct lh_query *query = queryd->queries, *next; query != NULL; query = next) {
        next = query->next;
        const struct lh_http_call *call = lh_http_find(queryd->http, query->ticket);
        bool is_gone = call == NULL || lh_http_call_has_fin(call);
        if (query->is_complete)
            continue;
        if (query->error.status != LH_OK)
            end(query, LH_OK, ""); /* again: an interrupt can come too early to be noticed */
        else if (is_gone)
            end(query, LH_CANCELLED, "the client went away");
        else if (is_stopping)
            end(query, LH_STOPPING, "the server is stopping");
        else if (now > lh_counter_get(&query->deadline_ns))
            end(query, LH_DEADLINE, "the query ran longer than it may (queryd.timeout)");
    }
    end_waiting(queryd);
}

bool lh_queryd_is_idle(const struct lh_queryd *queryd)
{
    return queryd->queries == NULL;
}

void lh_queryd_metrics(const struct lh_queryd *queryd, struct lh_buf *out)
{
    uint64_t queries = 0, errors = 0, rows = 0, running = 0;
    for (uint32_t i = 0; i < queryd->workers_made; i++) {
        const struct lh_query_worker *worker = &queryd->workers[i];
        queries += lh_counter_get(&worker->metrics.queries);
        errors += lh_counter_get(&worker->metrics.errors);
        rows += lh_counter_get(&worker->metrics.rows);
        running += worker->is_taken;
    }
    lh_buf_printf(out,
                  "# TYPE lakehouse_sql_queries_total counter\n"
                  "lakehouse_sql_queries_total %" PRIu64 "\n"
                  "# TYPE lakehouse_sql_errors_total counter\n"
                  "lakehouse_sql_errors_total %" PRIu64 "\n"
                  "# TYPE lakehouse_sql_rows_total counter\n"
                  "lakehouse_sql_rows_total %" PRIu64 "\n"
                  "# TYPE lakehouse_sql_running gauge\n"
                  "lakehouse_sql_running %" PRIu64 "\n"
                  "# TYPE lakehouse_sql_waiting gauge\n"
                  "lakehouse_sql_waiting %zu\n"
                  "# TYPE lakehouse_sql_refused_total counter\n"
                  "lakehouse_sql_refused_total %" PRIu64 "\n"
                  "# TYPE lakehouse_sql_cancelled_total counter\n"
                  "lakehouse_sql_cancelled_total %" PRIu64 "\n",
                  queries, errors, rows, running, queryd->waiting.count, queryd->refused,
                  queryd->cancelled);
}
