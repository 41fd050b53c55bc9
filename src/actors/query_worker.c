/* Query workers. Each runs on a thread of its own, and blocks: in DuckDB, and for a piece to come
 * back from the loop.
 *
 * Two pieces carry the rows, so one fills while the other is sent, and a client that reads slowly
 * holds up its query and nobody else's, at bounded memory. The first piece is not sent before it is
 * full or the rows are at their end: an error among them is still an answer of its own. */
#include "actors/query_worker.h"

#include "actors/query_import.h"
#include "base/clock.h"
#include "ext/number.h"
#include <assert.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
    lh_buf_deinit(&query->cursor);
    lh_reach_deinit(&query->reach);
    for (uint32_t i = 0; i < query->held_count; i++)
        lh_buf_deinit(&query->held[i]);
    free(query);
}

/* ---- pieces ---- */

struct lh_query_piece *lh_query_take_piece(struct lh_query_worker *worker, bool *is_unwanted)
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

void lh_query_send(struct lh_query_worker *worker, struct lh_query *query,
                   struct lh_query_piece *piece)
{
    piece->head.lane = LH_LANE_BULK;
    piece->query = query;
    enum lh_status status = lh_mailbox_push(worker->loop, &piece->head);
    assert(status == LH_OK); /* the workers stop after the loop */
    (void)status;
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
    if (status != LH_OK)
        return status;
    lh_sql_session_set_vectors(worker->session, &vectors);
    worker->tables.session = worker->session;
    lh_query_send(worker, NULL, lh_query_take_piece(worker, &is_unwanted));
    return LH_OK;
}

/* How many bytes this thread has read since the last call, of files and sockets. Between queries it
 * reads nothing. */
static uint64_t bytes_read(struct lh_query_worker *worker)
{
    char text[512];
    if (worker->io_file < 0)
        worker->io_file = open("/proc/thread-self/io", O_RDONLY | O_CLOEXEC);
    ssize_t len = worker->io_file < 0 ? -1 : pread(worker->io_file, text, sizeof text - 1, 0);
    if (len <= 0)
        return 0;
    text[len] = '\0';
    uint64_t total = strncmp(text, "rchar: ", 7) == 0 ? strtoull(text + 7, NULL, 10) : 0;
    uint64_t since = total - worker->read_before;
    worker->read_before = total + (uint64_t)len; /* this itself has been read, too */
    return since;
}

/* Milliseconds, to the microsecond. */
static void append_ms(struct lh_buf *out, uint64_t ns)
{
    lh_number_append_f64(out, (double)(ns / 1000) / 1e3);
}

static void append_end(const struct lh_query *query, struct lh_buf *out)
{
    const struct lh_query_statistics *statistics = &query->statistics;
    lh_buf_printf(out,
                  "],\"row_count\":%" PRIu64 ",\"truncated\":%s,\"elapsed_ms\":", statistics->rows,
                  statistics->is_truncated ? "true" : "false");
    append_ms(out, lh_clock_ns() - query->started_ns);
    lh_buf_printf(out,
                  ",\"statistics\":{\"rows\":%" PRIu64 ",\"bytes_read\":%" PRIu64 ",\"cpu_ms\":",
                  statistics->rows, statistics->bytes_read);
    append_ms(out, statistics->cpu_ns);
    lh_buf_append_str(out, LH_STR("}}\n"));
}

/* A statement: its rows go to the client, or into an index. */
static enum lh_status run_asked(struct lh_query_worker *worker, const struct lh_query_asked *asked,
                                struct lh_query_piece **last, struct lh_error *error)
{
    const struct lh_sql_gate gate = {.is_table = lh_query_tables_find, .arg = &worker->tables};
    struct lh_query *query = worker->query;
    struct lh_sql_fault fault = {0};
    struct lh_sql_query *sql;
    enum lh_status status;
    if (query->format == LH_QUERY_PARQUET) {
        status = lh_query_send_parquet(worker, &gate, asked, last, &fault, error);
        place(error, &fault);
        return status;
    }
    status = lh_sql_start(worker->session, &gate, asked->text,
                          asked->has_params ? &asked->params : NULL, &sql, &fault, error);
    if (status != LH_OK) {
        place(error, &fault);
        return status;
    }
    if (query->kind == LH_QUERY_IMPORT)
        status = lh_query_import(worker, sql, &(*last)->bytes, error);
    else
        status = lh_query_send_rows(worker, sql, last, error);
    lh_sql_finish(sql);
    return status;
}

static enum lh_status run_kind(struct lh_query_worker *worker, struct lh_query_piece **last,
                               struct lh_error *error)
{
    struct lh_query *query = worker->query;
    struct lh_query_asked asked;
    if (query->kind == LH_QUERY_TABLES)
        return lh_query_tables_list(&worker->tables, query, &(*last)->bytes, error);
    enum lh_status status = connect(worker, error);
    if (status != LH_OK)
        return status;
    if (query->kind == LH_QUERY_TABLE)
        return lh_query_tables_describe(&worker->tables, query, &(*last)->bytes, error);
    status = lh_query_read(query, &asked, error);
    if (status == LH_OK)
        status = run_asked(worker, &asked, last, error);
    if (asked.doc != NULL)
        lh_json_doc_destroy(asked.doc);
    return status;
}

static enum lh_status run(struct lh_query_worker *worker, struct lh_query_piece **last,
                          struct lh_error *error)
{
    struct lh_query *query = worker->query;
    uint64_t cpu_ns = lh_clock_thread_cpu_ns();
    enum lh_status status = run_kind(worker, last, error);
    query->statistics.cpu_ns = lh_clock_thread_cpu_ns() - cpu_ns;
    query->statistics.bytes_read = bytes_read(worker);
    if (status == LH_OK && query->kind == LH_QUERY_ROWS && query->format == LH_QUERY_JSON)
        append_end(query, &(*last)->bytes);
    return status;
}

/* DuckDB, and the gate, hand on no more than that something is wrong: who was asked knows what. */
static void find_cause(const struct lh_query_worker *worker, struct lh_error *error)
{
    if (error->status == LH_DATASET_NOT_FOUND && worker->tables.error.status != LH_OK)
        *error = worker->tables.error;
    else if (error->status == LH_INVALID_SQL && worker->vectors.status != LH_OK)
        error->status = worker->vectors.status;
}

static void handle(struct lh_query_worker *worker, struct lh_query *query)
{
    bool is_unwanted = false;
    struct lh_error error = {.status = LH_OK};
    struct lh_msg *resting;
    uint64_t started = lh_clock_ns();
    /* Here and not at the end: the last query may have been interrupted until the loop had its last
     * piece. An interrupt of this one that is lost now is repeated at the next tick. */
    if (worker->session != NULL)
        lh_sql_resume(worker->session);
    worker->query = query;
    worker->vectors.reach = &query->reach;
    worker->vectors.status = LH_OK;
    lh_query_tables_begin(&worker->tables, &query->reach);
    while ((resting = lh_msg_queue_take(&worker->resting)) != NULL)
        lh_msg_queue_put(&worker->free_pieces, resting);
    struct lh_query_piece *last = lh_query_take_piece(worker, &is_unwanted);
    enum lh_status status = run(worker, &last, &error);
    if (status == LH_OK && lh_buf_failed(&last->bytes))
        status = lh_error_set(&error, LH_OUT_OF_MEMORY, "not enough memory for the rows");
    last->is_last = true;
    if (status != LH_OK) {
        find_cause(worker, &error);
        last->error = error;
        lh_counter_add(&worker->metrics.errors, 1);
    }
    lh_counter_add(&worker->metrics.queries, 1);
    lh_counter_add(&worker->metrics.rows, query->statistics.rows);
    lh_counter_add(&worker->metrics.busy_ns, lh_clock_ns() - started);
    worker->query = NULL;
    lh_query_send(worker, query, last);
    if (worker->session != NULL)
        lh_sql_rest(worker->session);
}

static void run_actor(void *self)
{
    struct lh_query_worker *worker = self;
    const struct sched_param none = {0};
    struct lh_msg *msg;
    /* When it is woken, whoever has the core, the loop or a shard, ends what it does first. */
    (void)pthread_setschedparam(pthread_self(), SCHED_BATCH, &none);
    while (lh_actor_wait(&worker->actor)) {
        while ((msg = lh_actor_next(&worker->actor)) != NULL) {
            if (msg->type == LH_MSG_QUERY_PIECE)
                lh_msg_queue_put(&worker->free_pieces, msg);
            else
                handle(worker, (struct lh_query *)msg);
        }
    }
}

/* Whether what the worker does for its query is still wanted: for calls of other services. */
static bool is_unwanted(void *arg)
{
    const struct lh_query_worker *worker = arg;
    return worker->session != NULL && lh_sql_is_interrupted(worker->session);
}

enum lh_status lh_query_worker_init(struct lh_query_worker *worker, uint32_t number,
                                    const struct lh_query_worker_options *options,
                                    struct lh_error *error)
{
    *worker = (struct lh_query_worker){.loop = options->loop, .sql = options->sql, .io_file = -1};
    lh_vector_client_init(&worker->client, options->vectord);
    worker->vectors.client = options->vectord != NULL ? &worker->client : NULL;
    const struct lh_http_client_options http = {.url = options->vectord_url,
                                                .token = options->token,
                                                .is_cancelled = is_unwanted,
                                                .arg = worker};
    snprintf(worker->name, sizeof worker->name, "query-%u", number);
    lh_actor_init(&worker->actor, worker->name, run_actor, worker);
    for (uint32_t i = 0; i < LH_QUERY_PIECES; i++) {
        worker->pieces[i].head = (struct lh_msg){.type = LH_MSG_QUERY_PIECE, .lane = LH_LANE_BULK};
        worker->pieces[i].worker = worker;
        lh_msg_queue_put(&worker->free_pieces, &worker->pieces[i].head);
    }
    struct lh_query_tables_options tables = options->tables;
    tables.catalog.is_cancelled = tables.objects.is_cancelled = is_unwanted;
    tables.catalog.arg = tables.objects.arg = worker;
    enum lh_status status = lh_query_tables_init(&worker->tables, &tables, error);
    if (status == LH_OK && options->vectord_url.len > 0)
        status = lh_http_client_create(&http, &worker->vectors.http, error);
    return status;
}

void lh_query_worker_deinit(struct lh_query_worker *worker)
{
    if (worker->session != NULL)
        lh_sql_session_destroy(worker->session);
    for (uint32_t i = 0; i < LH_QUERY_PIECES; i++)
        lh_buf_deinit(&worker->pieces[i].bytes);
    if (worker->decoder != NULL)
        lh_decoder_destroy(worker->decoder);
    if (worker->io_file >= 0)
        close(worker->io_file);
    lh_query_tables_deinit(&worker->tables);
    if (worker->vectors.http != NULL)
        lh_http_client_destroy(worker->vectors.http);
    lh_vector_client_deinit(&worker->client);
    lh_actor_deinit(&worker->actor);
}
