/* The catalog's blocking client, by message or by HTTP. Runs on the thread that owns the client.
 *
 * A call by message waits at an actor that has no thread: the client's own, which sleeps on its
 * mailbox. Invariant: one call at a time, so the next message there is its answer. */
#include "actors/catalog_client.h"

#include "actors/catalog.h"
#include "actors/told.h"
#include "base/clock.h"
#include "net/client.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_BYTES_MAX (64u << 20) /* a manifest with the most objects of the longest keys */
#define BELIEVED_MAX     256u        /* names; the one that was asked for longest ago goes */

/* A newest manifest of a catalog elsewhere, as it was answered. */
struct believed {
    char name[LH_NAME_BYTES_MAX + 1];
    struct lh_buf text;
    uint64_t asked_ns;
};

struct lh_catalog_client {
    struct lh_actor *catalogd; /* NULL: it is elsewhere */
    struct lh_actor replies;
    struct lh_http_client *http;
    uint64_t believe_ns;
    struct believed *believed;
    uint32_t believed_count;
};

enum lh_status lh_catalog_client_create(const struct lh_catalog_client_options *options,
                                        struct lh_catalog_client **client, struct lh_error *error)
{
    struct lh_catalog_client *made = calloc(1, sizeof *made);
    if (made == NULL)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for a catalog client");
    made->catalogd = options->catalogd;
    made->believe_ns = options->believe_ms * 1000000;
    lh_actor_init(&made->replies, "catalog-client", NULL, NULL);
    enum lh_status status = LH_OK;
    if (made->catalogd == NULL) {
        struct lh_http_client_options http = {.url = options->url,
                                              .token = options->token,
                                              .is_cancelled = options->is_cancelled,
                                              .arg = options->arg};
        made->believed = calloc(BELIEVED_MAX, sizeof *made->believed);
        status = made->believed != NULL
                     ? lh_http_client_create(&http, &made->http, error)
                     : lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for a client");
    }
    if (status == LH_OK)
        *client = made;
    else
        lh_catalog_client_destroy(made);
    return status;
}

void lh_catalog_client_destroy(struct lh_catalog_client *client)
{
    if (client == NULL)
        return;
    for (uint32_t i = 0; i < client->believed_count; i++)
        lh_buf_deinit(&client->believed[i].text);
    free(client->believed);
    lh_http_client_destroy(client->http);
    lh_actor_deinit(&client->replies);
    free(client);
}

/* ---- one call ---- */

/* What is asked, and its answer: of status LH_OK with `http` and `answer`. */
struct exchange {
    struct lh_catalog_call *call;
    const char *method; /* the same over HTTP */
    struct lh_buf path;
};

static enum lh_status send_message(struct lh_catalog_client *client, struct lh_catalog_call *call,
                                   struct lh_error *error)
{
    if (lh_actor_send(client->catalogd, &call->head) != LH_OK)
        return lh_error_set(error, LH_CLOSED, "the catalog has stopped");
    struct lh_msg *msg = NULL;
    while (msg == NULL && lh_actor_wait(&client->replies))
        msg = lh_actor_next(&client->replies);
    assert(msg == &call->head);
    if (call->error.status == LH_OK)
        return LH_OK;
    *error = call->error;
    return error->status;
}

static enum lh_status send_http(struct lh_catalog_client *client, struct exchange *exchange,
                                struct lh_error *error)
{
    struct lh_catalog_call *call = exchange->call;
    lh_buf_append_char(&exchange->path, '\0');
    if (lh_buf_failed(&exchange->path) || lh_buf_failed(&call->body))
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for a call");
    struct lh_http_ask ask = {.method = exchange->method,
                              .path = exchange->path.ptr,
                              .content_type = call->body.len > 0 ? "application/json" : NULL,
                              .body = lh_buf_str(&call->body),
                              .answer_max = ANSWER_BYTES_MAX};
    struct lh_http_told told = {.status = 0};
    enum lh_status status = lh_http_client_ask(client->http, &ask, &told, error);
    call->http_status = told.status;
    call->answer = told.body;
    if (status == LH_IO)
        error->status = status = LH_BAD_GATEWAY;
    if (status == LH_OK && (told.status < 200 || told.status > 299))
        status = lh_told_error("catalogd", &ask, &told, error);
    return status;
}

/* Takes what `exchange` holds. */
static enum lh_status begin(struct lh_catalog_client *client, enum lh_catalog_op op,
                            struct lh_str name, struct exchange *exchange, struct lh_error *error)
{
    *exchange = (struct exchange){.call = lh_catalog_call_create(op, &client->replies.mailbox)};
    if (name.len > LH_NAME_BYTES_MAX)
        return lh_error_set(error, LH_INVALID_ARGUMENT, "name: longer than %u bytes",
                            LH_NAME_BYTES_MAX);
    if (exchange->call == NULL)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for a call");
    if (name.len > 0)
        memcpy(exchange->call->name, name.ptr, name.len);
    return LH_OK;
}

static enum lh_status perform(struct lh_catalog_client *client, struct exchange *exchange,
                              struct lh_error *error)
{
    if (client->catalogd != NULL)
        return send_message(client, exchange->call, error);
    return send_http(client, exchange, error);
}

static void end(struct exchange *exchange)
{
    lh_catalog_call_destroy(exchange->call);
    lh_buf_deinit(&exchange->path);
}

/* ---- what is believed of a catalog elsewhere ---- */

static struct believed *find(struct lh_catalog_client *client, struct lh_str name)
{
    for (uint32_t i = 0; i < client->believed_count; i++)
        if (lh_str_eq(lh_str_of(client->believed[i].name), name))
            return &client->believed[i];
    return NULL;
}

static void forget(struct lh_catalog_client *client, struct lh_str name)
{
    struct believed *known = find(client, name);
    if (known == NULL)
        return;
    lh_buf_deinit(&known->text);
    *known = client->believed[--client->believed_count];
}

/* Takes `text`. */
static void believe(struct lh_catalog_client *client, const char *name, struct lh_buf *text)
{
    struct believed *oldest;
    forget(client, lh_str_of(name));
    if (client->believed_count < BELIEVED_MAX) {
        oldest = &client->believed[client->believed_count++];
    } else {
        oldest = &client->believed[0];
        for (uint32_t i = 1; i < client->believed_count; i++)
            if (client->believed[i].asked_ns < oldest->asked_ns)
                oldest = &client->believed[i];
        lh_buf_deinit(&oldest->text);
    }
    *oldest = (struct believed){.text = lh_buf_take(text), .asked_ns = lh_clock_ns()};
    memcpy(oldest->name, name, strlen(name) + 1);
}

/* ---- the calls ---- */

enum lh_status lh_catalog_client_get(struct lh_catalog_client *client, struct lh_str name,
                                     uint64_t version, struct lh_manifest **manifest,
                                     struct lh_error *error)
{
    struct exchange exchange;
    struct believed *known = client->catalogd == NULL && version == 0 ? find(client, name) : NULL;
    if (known != NULL && lh_clock_ns() - known->asked_ns < client->believe_ns)
        return lh_manifest_read(lh_buf_str(&known->text), manifest, error);
    enum lh_status status = begin(client, LH_CATALOG_GET, name, &exchange, error);
    if (status == LH_OK) {
        exchange.method = "GET";
        exchange.call->version = version;
        lh_buf_append_str(&exchange.path, LH_STR("/v1/catalog/manifest/"));
        lh_http_escape(&exchange.path, name);
        if (version != 0)
            lh_buf_printf(&exchange.path, "?version=%" PRIu64, version);
        status = perform(client, &exchange, error);
    }
    if (status == LH_OK)
        status = lh_manifest_read(lh_buf_str(&exchange.call->answer), manifest, error);
    if (status == LH_OK && client->catalogd == NULL && version == 0 && client->believe_ns > 0)
        believe(client, exchange.call->name, &exchange.call->answer);
    end(&exchange);
    return status;
}

enum lh_status lh_catalog_client_register(struct lh_catalog_client *client,
                                          const struct lh_manifest *asked,
                                          enum lh_register_mode mode, struct lh_manifest **manifest,
                                          bool *is_new, struct lh_error *error)
{
    struct exchange exchange;
    enum lh_status status = begin(client, LH_CATALOG_REGISTER, LH_STR(""), &exchange, error);
    forget(client, asked->name);
    if (status == LH_OK) {
        exchange.method = "POST";
        lh_buf_append_str(&exchange.path, LH_STR("/v1/catalog/register"));
        lh_registration_append_json(asked, mode, &exchange.call->body);
        status = perform(client, &exchange, error);
    }
    if (status == LH_OK) {
        *is_new = exchange.call->http_status == 201;
        status = lh_manifest_read(lh_buf_str(&exchange.call->answer), manifest, error);
    }
    end(&exchange);
    return status;
}

enum lh_status lh_catalog_client_delete(struct lh_catalog_client *client, struct lh_str name,
                                        bool purge, struct lh_error *error)
{
    struct exchange exchange;
    enum lh_status status = begin(client, LH_CATALOG_DELETE, name, &exchange, error);
    forget(client, name);
    if (status == LH_OK) {
        exchange.method = "DELETE";
        exchange.call->purge = purge;
        lh_buf_append_str(&exchange.path, LH_STR("/v1/catalog/manifest/"));
        lh_http_escape(&exchange.path, name);
        if (purge)
            lh_buf_append_str(&exchange.path, LH_STR("?purge=true"));
        status = perform(client, &exchange, error);
    }
    end(&exchange);
    return status;
}

enum lh_status lh_catalog_client_list(struct lh_catalog_client *client, struct lh_str prefix,
                                      struct lh_str cursor, uint32_t limit, struct lh_buf *answer,
                                      struct lh_error *error)
{
    struct exchange exchange;
    enum lh_status status = begin(client, LH_CATALOG_LIST, prefix, &exchange, error);
    if (status == LH_OK && cursor.len > LH_NAME_BYTES_MAX)
        status = lh_error_set(error, LH_INVALID_CURSOR, "cursor: it is not a name");
    if (status == LH_OK) {
        exchange.method = "GET";
        exchange.call->limit = limit;
        if (cursor.len > 0)
            memcpy(exchange.call->cursor, cursor.ptr, cursor.len);
        lh_buf_printf(&exchange.path, "/v1/catalog/list?limit=%" PRIu32 "&prefix=", limit);
        lh_http_escape(&exchange.path, prefix);
        lh_buf_append_str(&exchange.path, LH_STR("&cursor="));
        lh_http_escape(&exchange.path, cursor);
        status = perform(client, &exchange, error);
    }
    if (status == LH_OK) {
        lh_buf_append_str(answer, lh_buf_str(&exchange.call->answer));
        if (lh_buf_failed(answer))
            status = lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for the list");
    }
    end(&exchange);
    return status;
}
