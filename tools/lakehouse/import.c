/* lakehouse import: a file to an index, over many connections at once.
 *
 * Threads: one a connection takes the next piece of the file under the lock, encodes it and posts
 * it, so that reading, encoding and the server's work overlap; the main thread shows the progress.
 * What the lock protects stands in struct lh_import. The first failure stops all; pieces that were
 * answered before stay in the index, and since an add is an upsert, running it again is safe. */
#include "client.h"
#include "progress.h"
#include "source.h"

#include "base/clock.h"
#include "ext/json_read.h"
#include "ext/number.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#define BATCH_DEFAULT       512u
#define CONNECTIONS_DEFAULT 4u
#define BODY_BYTES          (8u << 20) /* a batch of long rows is cut to about this */
#define FLOAT_TEXT_BYTES    16u        /* of one number as JSON, and its comma */
#define TRIES_MAX           8u         /* of one piece, refused or answered 503 */
#define RETRY_FIRST_MS      100u       /* doubled at each try: 12 seconds in all */
#define RETRY_AFTER_S_MAX   30u

struct lh_import {
    const struct lh_cli_options *options;
    uint32_t batch;
    bool is_base64;

    pthread_mutex_t lock; /* of all below */
    pthread_cond_t changed;
    struct lh_source source;
    struct lh_progress progress;
    uint64_t added;
    uint64_t updated;
    uint32_t running;
    bool has_failed;
    enum lh_cli_exit result;
};

/* One connection. */
struct lh_sender {
    struct lh_import *import;
    struct lh_client *client;
    char *path;
    struct lh_piece piece;
    struct lh_buf body;
    struct lh_answer answer;
    pthread_t thread;
};

/* ---- a piece as a body ---- */

/* The next id of the piece, or the row's number in `number`. */
static struct lh_str next_id(const struct lh_piece *piece, uint32_t i, size_t *at, char number[24])
{
    if (piece->ids.len == 0)
        return (struct lh_str){number,
                               (size_t)snprintf(number, 24, "%ju", (uintmax_t)(piece->first + i))};
    const char *id = piece->ids.ptr + *at;
    size_t len = (size_t)((const char *)memchr(id, '\n', piece->ids.len - *at) - id);
    *at += len + 1;
    return (struct lh_str){id, len};
}

static void encode(const struct lh_piece *piece, uint32_t dimension, bool is_base64,
                   struct lh_buf *body)
{
    char number[24];
    size_t at = 0;
    body->len = 0;
    lh_buf_append_str(body, LH_STR("{\"items\":["));
    for (uint32_t i = 0; i < piece->count; i++) {
        const float *row = piece->rows + (size_t)i * dimension;
        lh_buf_append_str(body, i == 0 ? LH_STR("{\"id\":") : LH_STR(",{\"id\":"));
        lh_buf_append_json_string(body, next_id(piece, i, &at, number));
        if (is_base64) {
            lh_buf_append_str(body, LH_STR(",\"vector\":\""));
            lh_base64_append(body, row, dimension * sizeof *row);
            lh_buf_append_str(body, LH_STR("\"}"));
        } else {
            lh_buf_append_str(body, LH_STR(",\"vector\":"));
            lh_number_append_f32_array(body, row, dimension);
            lh_buf_append_char(body, '}');
        }
    }
    lh_buf_append_str(body, LH_STR("]}"));
}

/* JSON has no NaN and no infinity: they are told with their row, before they are sent. */
static bool rows_are_finite(const struct lh_source *source, const struct lh_piece *piece,
                            struct lh_error *error)
{
    size_t count = (size_t)piece->count * source->dimension;
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(piece->rows[i])) {
            lh_error_set(error, LH_INVALID_ARGUMENT, "%.60s, row %ju: number %zu is %f",
                         source->name, (uintmax_t)(piece->first + i / source->dimension),
                         i % source->dimension, (double)piece->rows[i]);
            return false;
        }
    }
    return true;
}

/* ---- one piece, sent ---- */

/* Ends the import with what `say` prints, unless another has ended it. */
static void fail(struct lh_import *import, enum lh_cli_exit result, const char *message)
{
    pthread_mutex_lock(&import->lock);
    if (!import->has_failed) {
        import->has_failed = true;
        import->result = result;
        lh_progress_end(&import->progress);
        lh_cli_say("%s", message);
    }
    pthread_mutex_unlock(&import->lock);
}

static bool must_stop(struct lh_import *import)
{
    pthread_mutex_lock(&import->lock);
    bool has_failed = import->has_failed;
    pthread_mutex_unlock(&import->lock);
    return has_failed;
}

static void wait_ms(uint32_t ms)
{
    struct timespec time = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&time, NULL);
}

/* Which row or line of the file the server's message is about: it counts from the piece's first. */
static void name_place(const struct lh_sender *sender, const char *message, char *text, size_t size)
{
    const struct lh_source *source = &sender->import->source;
    const struct lh_piece *piece = &sender->piece;
    bool is_lines = source->format == LH_SOURCE_NDJSON;
    unsigned number;
    uintmax_t first = piece->first, last = first + piece->count - 1;
    if (!is_lines && sscanf(message, "items[%u]", &number) == 1 && number < piece->count)
        snprintf(text, size, "%s, row %ju", source->name, first + number);
    else if (is_lines && sscanf(message, "line %u:", &number) == 1 && number - 1 < piece->count)
        snprintf(text, size, "%s, line %ju", source->name, first + number - 1);
    else
        snprintf(text, size, "%s, %s %ju to %ju", source->name, is_lines ? "lines" : "rows", first,
                 last);
}

static void fail_answered(struct lh_sender *sender, unsigned tries)
{
    struct lh_import *import = sender->import;
    const char *url = import->options->url;
    char code[64], message[512], place[512], text[1400];
    lh_answer_error(&sender->answer, code, sizeof code, message, sizeof message);
    name_place(sender, message, place, sizeof place);
    if (sender->answer.http == 0)
        snprintf(text, sizeof text,
                 "cannot reach %s: %s (tried %u times). Is lakehoused running? Start it with "
                 "tools/run and import again: what is there already is replaced, not doubled",
                 url, message, tries);
    else
        snprintf(text, sizeof text, "%s: %s (%s)%s", place, message, code,
                 sender->answer.http == 503 ? "; the server stayed at its limit, try fewer "
                                              "--connections"
                                            : "");
    fail(import, sender->answer.http == 0 ? LH_CLI_UNREACHABLE : LH_CLI_REFUSED, text);
}

/* Posts until it is answered with something other than "not now". False: the import has ended. */
static bool post(struct lh_sender *sender, struct lh_str body, const char *type)
{
    uint32_t delay_ms = RETRY_FIRST_MS;
    for (unsigned tries = 1;; tries++, delay_ms *= 2) {
        lh_client_call(sender->client, "POST", sender->path, type, body, &sender->answer);
        int http = sender->answer.http;
        if (http == 200)
            return true;
        if (must_stop(sender->import))
            return false;
        if ((http != 0 && http != 503) || tries == TRIES_MAX) {
            fail_answered(sender, tries);
            return false;
        }
        uint32_t asked_s = sender->answer.retry_after_s;
        if (asked_s > RETRY_AFTER_S_MAX)
            asked_s = RETRY_AFTER_S_MAX;
        wait_ms(asked_s > 0 ? asked_s * 1000 : delay_ms);
    }
}

/* Takes the next piece; false at the end of the file or of the import. */
static bool take_piece(struct lh_sender *sender)
{
    struct lh_import *import = sender->import;
    struct lh_error error = {0};
    enum lh_status status = LH_OK;
    pthread_mutex_lock(&import->lock);
    sender->piece.count = 0;
    if (!import->has_failed)
        status = lh_source_next(&import->source, import->batch, &sender->piece, &error);
    pthread_mutex_unlock(&import->lock);
    if (status != LH_OK) {
        fail(import, LH_CLI_USAGE, error.text);
        return false;
    }
    return sender->piece.count > 0;
}

static void count_answer(struct lh_sender *sender)
{
    struct lh_import *import = sender->import;
    struct lh_json_doc *doc = NULL;
    struct lh_json root;
    uint64_t added = 0, updated = 0;
    if (lh_json_doc_create(lh_buf_str(&sender->answer.body), &doc, &root, NULL) != LH_OK ||
        !lh_json_get_u64(root, "added", &added) || !lh_json_get_u64(root, "updated", &updated))
        fail(import, LH_CLI_REFUSED, "the answer to an add is not one of lakehoused's");
    lh_json_doc_destroy(doc);
    pthread_mutex_lock(&import->lock);
    import->added += added;
    import->updated += updated;
    import->progress.done += added + updated;
    import->progress.bytes_done += sender->piece.bytes;
    pthread_mutex_unlock(&import->lock);
}

static void *run_sender(void *arg)
{
    struct lh_sender *sender = arg;
    struct lh_import *import = sender->import;
    const struct lh_source *source = &import->source; /* what is read here does not change */
    struct lh_error error;
    bool is_lines = source->format == LH_SOURCE_NDJSON;
    while (take_piece(sender)) {
        if (!is_lines && !rows_are_finite(source, &sender->piece, &error)) {
            fail(import, LH_CLI_USAGE, error.text);
            break;
        }
        if (!is_lines)
            encode(&sender->piece, source->dimension, import->is_base64, &sender->body);
        struct lh_str body = lh_buf_str(is_lines ? &sender->piece.text : &sender->body);
        if (lh_buf_failed(&sender->body)) {
            fail(import, LH_CLI_REFUSED, "not enough memory for a batch");
            break;
        }
        if (!post(sender, body, is_lines ? "application/x-ndjson" : "application/json"))
            break;
        count_answer(sender);
    }
    pthread_mutex_lock(&import->lock);
    import->running--;
    pthread_cond_signal(&import->changed);
    pthread_mutex_unlock(&import->lock);
    return NULL;
}

/* ---- the whole ---- */

static bool sender_init(struct lh_sender *sender, struct lh_import *import)
{
    *sender = (struct lh_sender){.import = import};
    sender->client = lh_client_create(import->options);
    if (sender->client != NULL)
        sender->path = lh_client_index_path(sender->client, import->options->index, "/add", NULL);
    return sender->path != NULL;
}

static void sender_deinit(struct lh_sender *sender)
{
    lh_client_destroy(sender->client);
    free(sender->path);
    lh_piece_deinit(&sender->piece);
    lh_buf_deinit(&sender->body);
    lh_answer_deinit(&sender->answer);
}

/* Shows the progress until every sender is done. */
static void watch(struct lh_import *import)
{
    pthread_mutex_lock(&import->lock);
    while (import->running > 0) {
        struct timespec until;
        uint64_t ms = lh_progress_interval_ms(&import->progress);
        clock_gettime(CLOCK_MONOTONIC, &until);
        uint64_t ns = (uint64_t)until.tv_nsec + ms * 1000000;
        until.tv_sec += (time_t)(ns / 1000000000);
        until.tv_nsec = (long)(ns % 1000000000);
        int late = 0;
        while (import->running > 0 && late == 0)
            late = pthread_cond_timedwait(&import->changed, &import->lock, &until);
        if (import->running > 0 && !import->has_failed)
            lh_progress_show(&import->progress);
    }
    lh_progress_end(&import->progress);
    pthread_mutex_unlock(&import->lock);
}

static enum lh_cli_exit send_all(struct lh_import *import)
{
    uint32_t count = import->options->connections;
    if (count == 0)
        count = CONNECTIONS_DEFAULT;
    struct lh_sender *senders = calloc(count, sizeof *senders);
    uint32_t ready = 0, started = 0;
    if (senders == NULL) {
        lh_cli_say("not enough memory");
        return LH_CLI_REFUSED;
    }
    while (ready < count && sender_init(&senders[ready], import))
        ready++;
    if (ready < count)
        fail(import, LH_CLI_REFUSED, "could not open all connections");
    pthread_mutex_lock(&import->lock);
    import->running = ready;
    pthread_mutex_unlock(&import->lock);
    for (; started < ready; started++) {
        if (pthread_create(&senders[started].thread, NULL, run_sender, &senders[started]) != 0) {
            fail(import, LH_CLI_REFUSED, "could not start a thread; try fewer --connections");
            pthread_mutex_lock(&import->lock);
            import->running -= ready - started;
            pthread_mutex_unlock(&import->lock);
            break;
        }
    }
    watch(import);
    for (uint32_t i = 0; i < started; i++)
        pthread_join(senders[i].thread, NULL);
    for (uint32_t i = 0; i < ready + (ready < count); i++)
        sender_deinit(&senders[i]);
    free(senders);
    return import->result;
}

/* Makes the index unless it is there. */
static enum lh_cli_exit make_index(struct lh_import *import)
{
    const struct lh_cli_options *options = import->options;
    struct lh_client *client = lh_client_create(options);
    struct lh_answer answer = {0};
    struct lh_buf body = LH_BUF_EMPTY;
    enum lh_cli_exit result = LH_CLI_USAGE;
    char *path = client != NULL ? lh_client_index_path(client, options->index, NULL, NULL) : NULL;
    if (path == NULL)
        goto done;
    result = LH_CLI_OK;
    lh_client_call(client, "GET", path, NULL, (struct lh_str){0}, &answer);
    if (answer.http != 404 && answer.http != 200)
        result = lh_client_complain(client, &answer);
    if (answer.http != 404)
        goto done;
    lh_cli_index_body(options, options->index, import->source.dimension, &body);
    lh_client_call(client, "POST", "/v1/vectors/index", "application/json", lh_buf_str(&body),
                   &answer);
    if (answer.http == 201)
        fprintf(stderr, "created index %s with %u dimensions\n", options->index,
                import->source.dimension);
    else
        result = lh_client_complain(client, &answer);
done:
    lh_buf_deinit(&body);
    lh_answer_deinit(&answer);
    lh_client_destroy(client);
    free(path);
    return result;
}

static void say_result(const struct lh_import *import)
{
    char done[32], rate[32], added[32], updated[32];
    double seconds = (double)(lh_clock_ns() - import->progress.started_ns) / 1e9;
    uint64_t count = import->progress.done;
    printf("%s %s vectors in %.2f s (%s vectors/s): %s added, %s updated\n",
           import->result == LH_CLI_OK ? "imported" : "stopped after", lh_grouped(count, done),
           seconds, lh_grouped((uint64_t)((double)count / seconds), rate),
           lh_grouped(import->added, added), lh_grouped(import->updated, updated));
}

/* Rows in a batch: what was asked for, or as many as keep a body of usual size. */
static uint32_t batch_rows(const struct lh_import *import)
{
    uint32_t wanted = import->options->batch > 0 ? import->options->batch : BATCH_DEFAULT;
    uint32_t number_bytes = import->is_base64 ? 6 : FLOAT_TEXT_BYTES; /* 16 / 3 of base64 */
    uint32_t most = BODY_BYTES / (import->source.dimension * number_bytes) + 1;
    return wanted < most ? wanted : most;
}

enum lh_cli_exit lh_cli_import(const struct lh_cli_options *options)
{
    struct lh_error error;
    struct lh_import import = {.options = options, .result = LH_CLI_OK};
    pthread_condattr_t monotonic;
    if (options->word_count != 1)
        return lh_cli_usage(LH_CLI_IMPORT, options->word_count == 0 ? "which FILE?"
                                                                    : "one FILE at a time, please");
    if (options->index == NULL)
        return lh_cli_usage(LH_CLI_IMPORT, "into which index? Add --index NAME");
    if (lh_source_open(&import.source, options->words[0], options->format, options->ids, &error) !=
        LH_OK) {
        lh_cli_say("%s", error.text);
        lh_source_close(&import.source);
        return LH_CLI_USAGE;
    }
    import.is_base64 = options->encoding == NULL || strcmp(options->encoding, "base64") == 0;
    import.batch = batch_rows(&import);
    pthread_mutex_init(&import.lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&import.changed, &monotonic);
    pthread_condattr_destroy(&monotonic);

    enum lh_cli_exit result = make_index(&import);
    if (result == LH_CLI_OK) {
        uint64_t left = import.source.bytes - (uint64_t)import.source.rows_at;
        lh_progress_start(&import.progress, import.source.rows, import.source.bytes > 0 ? left : 0);
        result = send_all(&import);
        say_result(&import);
    }
    pthread_cond_destroy(&import.changed);
    pthread_mutex_destroy(&import.lock);
    lh_source_close(&import.source);
    return result;
}
