/* The catalog's routes: a message to catalogd for each call, and its answer. Loop thread. */
#include "actors/gateway.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static void refuse(struct lh_http_call *call, const struct lh_error *error)
{
    lh_http_answer_error(call, error);
}

/* What a token that is limited may reach; catalogd looks, as it is in the body, or is a list. */
static bool limit(struct lh_gateway *gateway, struct lh_http_call *call,
                  struct lh_catalog_call *made)
{
    const struct lh_token *token;
    if (!lh_access_token(gateway->access, call, &token))
        return false;
    if (token == NULL || !lh_token_is_limited(token))
        return true;
    for (uint32_t i = 0; i < token->prefix_count; i++) {
        lh_buf_append_str(&made->allowed, lh_str_of(token->prefixes[i]));
        lh_buf_append_char(&made->allowed, '\n');
    }
    if (token->prefix_count == 0)
        lh_buf_append_char(&made->allowed, '\n'); /* nothing */
    if (!lh_buf_failed(&made->allowed))
        return true;
    refuse(call, &(struct lh_error){.status = LH_OUT_OF_MEMORY});
    return false;
}

/* NULL: it was answered. `name` is a dataset's, a prefix of names, or nothing. */
static struct lh_catalog_call *create(struct lh_gateway *gateway, struct lh_http_call *call,
                                      enum lh_catalog_op op, struct lh_str name)
{
    struct lh_error error;
    if (!gateway->catalog->is_made) {
        refuse(call, &gateway->catalog->reason);
        return NULL;
    }
    struct lh_catalog_call *made =
        lh_catalog_call_create(op, lh_http_server_mailbox(gateway->http));
    if (made == NULL) {
        lh_error_set(&error, LH_OUT_OF_MEMORY, "not enough memory for the call");
        refuse(call, &error);
        return NULL;
    }
    assert(name.len < sizeof made->name);
    if (name.len > 0)
        memcpy(made->name, name.ptr, name.len);
    made->ticket = lh_http_call_ticket(call);
    if (limit(gateway, call, made))
        return made;
    lh_catalog_call_destroy(made);
    return NULL;
}

static struct lh_catalog_call *create_for_name(struct lh_gateway *gateway,
                                               struct lh_http_call *call, enum lh_catalog_op op)
{
    struct lh_str name = lh_http_call_param(call, 0);
    struct lh_error error;
    if (lh_dataset_name_is_valid(name))
        return create(gateway, call, op, name);
    lh_error_set(&error, LH_DATASET_NOT_FOUND, "there is no dataset \"%.*s\"",
                 (int)(name.len < 100 ? name.len : 100), name.ptr);
    refuse(call, &error);
    return NULL;
}

static void send(struct lh_gateway *gateway, struct lh_catalog_call *made)
{
    gateway->in_flight++;
    enum lh_status status = lh_actor_send(&gateway->catalog->catalogd.actor, &made->head);
    assert(status == LH_OK); /* the actors stop after the loop */
    (void)status;
}

void lh__catalog_back(struct lh_gateway *gateway, struct lh_catalog_call *made)
{
    struct lh_http_call *call = lh_http_find(gateway->http, made->ticket);
    if (call != NULL && made->error.status != LH_OK)
        refuse(call, &made->error);
    else if (call != NULL)
        lh_http_answer(call, made->http_status, made->answer.len > 0 ? "application/json" : NULL,
                       made->answer.len > 0 ? &made->answer : NULL);
    lh_http_server_body_done(gateway->http, made->body_bytes);
    lh_catalog_call_destroy(made);
    gateway->in_flight--;
}

/* ---- the routes ---- */

void lh_handle_dataset_register(struct lh_http_call *call, void *context)
{
    struct lh_gateway *gateway = context;
    if (!lh__gateway_check_json(call))
        return;
    struct lh_catalog_call *made = create(gateway, call, LH_CATALOG_REGISTER, LH_STR(""));
    if (made == NULL)
        return;
    made->body = lh_http_call_take_body(call);
    made->body_bytes = made->body.len;
    send(gateway, made);
}

void lh_handle_dataset_get(struct lh_http_call *call, void *context)
{
    struct lh_gateway *gateway = context;
    struct lh_str text;
    struct lh_error error;
    uint64_t version = 0;
    if (lh_http_call_query(call, "version", &text) &&
        (!lh_str_to_u64(text, &version) || version == 0)) {
        lh_error_set(&error, LH_INVALID_ARGUMENT, "version: \"%.*s\" is not a number from 1",
                     (int)(text.len < 40 ? text.len : 40), text.ptr);
        refuse(call, &error);
        return;
    }
    struct lh_catalog_call *made = create_for_name(gateway, call, LH_CATALOG_GET);
    if (made == NULL)
        return;
    made->version = version;
    send(gateway, made);
}

void lh_handle_dataset_delete(struct lh_http_call *call, void *context)
{
    struct lh_gateway *gateway = context;
    struct lh_error error;
    bool purge;
    if (lh__gateway_parse_flag(call, "purge", &purge, &error) != LH_OK) {
        refuse(call, &error);
        return;
    }
    struct lh_catalog_call *made = create_for_name(gateway, call, LH_CATALOG_DELETE);
    if (made == NULL)
        return;
    made->purge = purge;
    send(gateway, made);
}

static enum lh_status parse_page(const struct lh_http_call *call, struct lh_str *prefix,
                                 struct lh_str *cursor, uint32_t *limit_, struct lh_error *error)
{
    struct lh_str text;
    uint64_t number = LH_CATALOG_PAGE_DEFAULT;
    *prefix = *cursor = LH_STR("");
    (void)lh_http_call_query(call, "prefix", prefix);
    (void)lh_http_call_query(call, "cursor", cursor);
    if (prefix->len > LH_NAME_BYTES_MAX)
        return lh_error_set(error, LH_LIMIT_EXCEEDED, "prefix: a name has at most %u bytes",
                            LH_NAME_BYTES_MAX);
    if (cursor->len > 0 && !lh_dataset_name_is_valid(*cursor))
        return lh_error_set(error, LH_INVALID_CURSOR, "cursor: it is not from a next_cursor");
    if (lh_http_call_query(call, "limit", &text) &&
        (!lh_str_to_u64(text, &number) || number == 0 || number > LH_CATALOG_PAGE_MAX))
        return lh_error_set(error, LH_INVALID_ARGUMENT, "limit: a number from 1 to %u is needed",
                            LH_CATALOG_PAGE_MAX);
    *limit_ = (uint32_t)number;
    return LH_OK;
}

void lh_handle_dataset_list(struct lh_http_call *call, void *context)
{
    struct lh_gateway *gateway = context;
    struct lh_str prefix, cursor;
    struct lh_error error;
    uint32_t number = 0;
    if (parse_page(call, &prefix, &cursor, &number, &error) != LH_OK) {
        refuse(call, &error);
        return;
    }
    struct lh_catalog_call *made = create(gateway, call, LH_CATALOG_LIST, prefix);
    if (made == NULL)
        return;
    if (cursor.len > 0)
        memcpy(made->cursor, cursor.ptr, cursor.len);
    made->limit = number;
    send(gateway, made);
}

/* ---- how it is ---- */

void lh_catalog_append_state(const struct lh_catalog *catalog, struct lh_buf *out)
{
    const struct lh_catalogd_metrics *metrics = &catalog->catalogd.metrics;
    if (!catalog->is_made)
        return;
    uint64_t unread = lh_counter_get(&metrics->unread);
    const char *state = lh_counter_get(&metrics->is_listed) == 0 ? "listing"
                        : unread > 0                             ? "reading"
                                                                 : "read";
    lh_buf_printf(out, ",\"catalog\":{\"state\":\"%s\",\"datasets\":%llu,\"unread\":%llu}", state,
                  (unsigned long long)lh_counter_get(&metrics->datasets),
                  (unsigned long long)unread);
}

static void append_metric(struct lh_buf *out, const char *name, const char *type, const char *help,
                          const struct lh_counter *counter)
{
    lh_metrics_family(out, name, type, help);
    lh_metrics_sample(out, name, "", (double)lh_counter_get(counter));
}

void lh_catalog_metrics(const struct lh_catalog *catalog, struct lh_buf *out)
{
    const struct lh_catalogd_metrics *metrics = &catalog->catalogd.metrics;
    const struct lh_catalog_store_metrics *store = &catalog->store.metrics;
    if (!catalog->is_made)
        return;
    append_metric(out, "lakehouse_catalog_datasets", "gauge", "Datasets", &metrics->datasets);
    append_metric(out, "lakehouse_catalog_unread", "gauge",
                  "Datasets whose newest manifest is still to be read", &metrics->unread);
    append_metric(out, "lakehouse_catalog_failed", "gauge",
                  "Datasets whose newest manifest is broken", &metrics->failed);
    append_metric(out, "lakehouse_catalog_waiting", "gauge",
                  "Registrations and deletions that wait for the one under way", &metrics->waiting);
    append_metric(out, "lakehouse_catalog_registered_total", "counter", "Versions registered",
                  &metrics->registered);
    append_metric(out, "lakehouse_catalog_unchanged_total", "counter",
                  "Registrations of what was registered", &metrics->unchanged);
    append_metric(out, "lakehouse_catalog_deleted_total", "counter", "Datasets deleted",
                  &metrics->deleted);
    append_metric(out, "lakehouse_catalog_refused_total", "counter",
                  "Registrations and deletions refused", &metrics->refused);
    append_metric(out, "lakehouse_catalog_manifests_read_total", "counter",
                  "Manifests asked of the object store", &store->reads);
    append_metric(out, "lakehouse_catalog_store_failures_total", "counter",
                  "Work on manifests that the object store or a disk has failed", &store->errors);
    lh_metrics_family(out, "lakehouse_catalog_write_seconds", "histogram",
                      "One manifest: its objects checked, written, and durable");
    lh_metrics_histogram(out, "lakehouse_catalog_write_seconds", "", &store->write_time);
}
