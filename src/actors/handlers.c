/* The route handlers: each makes a request of its call. Loop thread.
 *
 * Only what is in the path, the query and the header is looked at here; bodies go to a decoder. */
#include "actors/gateway.h"

#include <inttypes.h>
#include <string.h>

static void answer_text(struct lh_http_call *call, const char *type, struct lh_str text)
{
    struct lh_buf body = LH_BUF_EMPTY;
    lh_buf_append_str(&body, text);
    lh_http_answer(call, 200, type, &body);
}

void lh_handle_health(struct lh_http_call *call, void *context)
{
    answer_text(call, "application/json", LH_STR("{\"status\":\"ok\"}"));
    (void)context;
}

static const char *peer_state(const struct lh_gateway *gateway)
{
    const struct lh_peer_metrics *metrics = &gateway->peer->metrics;
    if (lh_counter_get(&metrics->is_listed) == 0)
        return lh_counter_get(&metrics->list_failures) > 0 ? "unreachable" : "asked";
    return lh_counter_get(&gateway->vectord->metrics.arriving) > 0 ? "loading" : "listed";
}

/* The vector service of this process; true when it is ready. */
static bool append_vectord(const struct lh_gateway *gateway, struct lh_buf *body)
{
    const struct lh_vectord_metrics *metrics = &gateway->vectord->metrics;
    lh_buf_printf(body,
                  ",\"indexes\":%" PRIu64 ",\"loading\":%" PRIu64 ",\"failed\":%" PRIu64
                  ",\"log_records\":%" PRIu64 ",\"log_replayed\":%" PRIu64,
                  lh_counter_get(&metrics->indexes), lh_counter_get(&metrics->loading),
                  lh_counter_get(&metrics->failed), lh_counter_get(&metrics->to_replay),
                  lh_counter_get(&metrics->replayed));
    if (gateway->peer != NULL)
        lh_buf_printf(body, ",\"peer\":\"%s\"", peer_state(gateway));
    return lh_counter_get(&metrics->recovering) == 0 && lh_counter_get(&metrics->awaits_peer) == 0;
}

/* The object store of this process; true when it is ready. */
static bool append_storaged(const struct lh_storaged_metrics *metrics, struct lh_buf *body)
{
    bool is_counting = lh_counter_get(&metrics->is_counting) != 0;
    const char *state = is_counting                                ? "counting"
                        : lh_counter_get(&metrics->is_listed) != 0 ? "listed"
                                                                   : "unlisted";
    lh_buf_printf(body, ",\"objects\":\"%s\"", state);
    return !is_counting;
}

/* The services in other processes, each by its name. */
static void append_proxied(const struct lh_proxy *proxy, struct lh_buf *body)
{
    const struct lh_proxied *unready = lh_proxy_find_unready(proxy);
    if (proxy->count == 0)
        return;
    for (uint32_t i = 0; i < proxy->count; i++)
        lh_buf_printf(body, "%s\"%s\":\"%s\"", i == 0 ? ",\"services\":{" : ",",
                      proxy->services[i].place->name,
                      lh_proxied_state_name(proxy->services[i].state));
    lh_buf_append_char(body, '}');
    if (unready != NULL && unready->reason[0] != '\0') {
        lh_buf_append_str(body, LH_STR(",\"reason\":"));
        lh_buf_append_json_string(body, lh_str_of(unready->reason));
    }
}

void lh_handle_ready(struct lh_http_call *call, void *context)
{
    struct lh_gateway *gateway = context;
    const struct lh_proxied *unready = NULL;
    struct lh_buf details = LH_BUF_EMPTY;
    struct lh_buf body = LH_BUF_EMPTY;
    const char *status = "ready";
    if (gateway->vectord != NULL && !append_vectord(gateway, &details))
        status = "loading";
    if (gateway->storaged_metrics != NULL && !append_storaged(gateway->storaged_metrics, &details))
        status = "loading";
    if (gateway->catalog != NULL)
        lh_catalog_append_state(gateway->catalog, &details);
    if (lh_http_call_service(call) == LH_HTTP_GATEWAY) {
        append_proxied(&gateway->proxy, &details);
        unready = lh_proxy_find_unready(&gateway->proxy);
        if (unready != NULL)
            status = unready->state == LH_PROXIED_UNREACHABLE ? "unreachable" : "loading";
    }
    lh_buf_printf(&body, "{\"status\":\"%s\"%.*s}", status, LH_STR_FMT(lh_buf_str(&details)));
    bool is_ready = strcmp(status, "ready") == 0 && !lh_buf_failed(&details);
    lh_buf_deinit(&details);
    if (!is_ready)
        lh_http_call_add_header(call, "Retry-After", "1");
    lh_http_answer(call, is_ready ? 200 : 503, "application/json", &body);
}

void lh_handle_openapi(struct lh_http_call *call, void *context)
{
    struct lh_gateway *gateway = context;
    answer_text(call, "application/json", lh_buf_str(&gateway->openapi));
}

/* ---- what a body may be ---- */

/* Without a Content-Type, and with the one that curl -d sends unasked, a body is taken as JSON. */
static bool is_json(struct lh_str type)
{
    static const struct lh_str accepted[] = {
        {"application/json", 16},
        {"text/json", 9},
        {"text/plain", 10},
        {"application/x-www-form-urlencoded", 33},
    };
    const char *semicolon = type.len ? memchr(type.ptr, ';', type.len) : NULL;
    if (semicolon != NULL)
        type.len = (size_t)(semicolon - type.ptr);
    type = lh_str_trim(type);
    if (type.len == 0)
        return true;
    for (size_t i = 0; i < sizeof accepted / sizeof *accepted; i++) {
        if (lh_str_eq_nocase(type, accepted[i]))
            return true;
    }
    return type.len > 5 &&
           lh_str_eq_nocase((struct lh_str){type.ptr + type.len - 5, 5}, LH_STR("+json"));
}

bool lh__gateway_check_json(struct lh_http_call *call)
{
    struct lh_str type = lh_http_call_header(call, "content-type");
    struct lh_error error;
    if (is_json(type))
        return true;
    lh_error_set(&error, LH_UNSUPPORTED_MEDIA_TYPE,
                 "Content-Type: \"%.*s\" is not application/json",
                 (int)(type.len < 80 ? type.len : 80), type.ptr);
    lh_http_answer_error(call, &error);
    return false;
}

static void start_with_body(struct lh_gateway *gateway, struct lh_http_call *call, enum lh_op op)
{
    if (!lh__gateway_check_json(call))
        return;
    struct lh_request *request = lh__gateway_request(gateway, call, op);
    if (request == NULL)
        return;
    request->body = lh_http_call_take_body(call);
    request->body_bytes = request->body.len;
    lh__gateway_admit(gateway, request);
}

static void start(struct lh_gateway *gateway, struct lh_http_call *call, enum lh_op op)
{
    struct lh_request *request = lh__gateway_request(gateway, call, op);
    if (request != NULL)
        lh__gateway_admit(gateway, request);
}

void lh_handle_index_create(struct lh_http_call *call, void *context)
{
    start_with_body(context, call, LH_OP_INDEX_CREATE);
}

void lh_handle_index_list(struct lh_http_call *call, void *context)
{
    start(context, call, LH_OP_INDEX_LIST);
}

void lh_handle_index_get(struct lh_http_call *call, void *context)
{
    start(context, call, LH_OP_INDEX_GET);
}

void lh_handle_index_reshard(struct lh_http_call *call, void *context)
{
    start_with_body(context, call, LH_OP_INDEX_RESHARD);
}

void lh_handle_index_checkpoint(struct lh_http_call *call, void *context)
{
    start(context, call, LH_OP_INDEX_CHECKPOINT);
}

void lh_handle_index_drop(struct lh_http_call *call, void *context)
{
    start(context, call, LH_OP_INDEX_DROP);
}

void lh_handle_add(struct lh_http_call *call, void *context)
{
    if (lh_http_call_is_stream(call))
        lh__ndjson_begin(context, call);
    else
        start_with_body(context, call, LH_OP_ADD);
}

void lh_handle_search(struct lh_http_call *call, void *context)
{
    start_with_body(context, call, LH_OP_SEARCH);
}

void lh_handle_items_delete(struct lh_http_call *call, void *context)
{
    start_with_body(context, call, LH_OP_ITEMS_DELETE);
}

/* ---- items by id ---- */

static void start_item(struct lh_gateway *gateway, struct lh_http_call *call, enum lh_op op)
{
    struct lh_str id = lh_http_call_param(call, 1);
    struct lh_error error;
    if (id.len == 0 || id.len > LH_ID_BYTES_MAX || !lh_str_is_utf8(id)) {
        lh_error_set(&error, LH_INVALID_ARGUMENT,
                     "id: %zu bytes in the path; an id is 1 to %u bytes of UTF-8", id.len,
                     LH_ID_BYTES_MAX);
        lh_http_answer_error(call, &error);
        return;
    }
    struct lh_request *request = lh__gateway_request(gateway, call, op);
    if (request == NULL)
        return;
    lh_buf_append_str(&request->text, id);
    lh__gateway_admit(gateway, request);
}

void lh_handle_item_get(struct lh_http_call *call, void *context)
{
    start_item(context, call, LH_OP_ITEM_GET);
}

void lh_handle_item_drop(struct lh_http_call *call, void *context)
{
    start_item(context, call, LH_OP_ITEM_DROP);
}

static enum lh_status parse_limit(const struct lh_http_call *call, uint32_t *limit,
                                  struct lh_error *error)
{
    struct lh_str text;
    uint64_t value;
    *limit = LH_PAGE_ITEMS_DEFAULT;
    if (!lh_http_call_query(call, "limit", &text))
        return LH_OK;
    if (!lh_str_to_u64(text, &value) || value < 1 || value > LH_PAGE_ITEMS_MAX)
        return lh_error_set(error, LH_INVALID_ARGUMENT,
                            "limit: \"%.*s\" is not a whole number from 1 to %u",
                            (int)(text.len < 40 ? text.len : 40), text.ptr, LH_PAGE_ITEMS_MAX);
    *limit = (uint32_t)value;
    return LH_OK;
}

enum lh_status lh__gateway_parse_flag(const struct lh_http_call *call, const char *name, bool *flag,
                                      struct lh_error *error)
{
    struct lh_str text;
    *flag = false;
    if (!lh_http_call_query(call, name, &text))
        return LH_OK;
    *flag = lh_str_eq(text, LH_STR("true")) || lh_str_eq(text, LH_STR("1"));
    if (*flag || lh_str_eq(text, LH_STR("false")) || lh_str_eq(text, LH_STR("0")))
        return LH_OK;
    return lh_error_set(error, LH_INVALID_ARGUMENT, "%s: \"%.*s\" is not true or false", name,
                        (int)(text.len < 40 ? text.len : 40), text.ptr);
}

void lh_handle_items_page(struct lh_http_call *call, void *context)
{
    struct lh_error error;
    struct lh_str cursor = {0};
    uint32_t limit = 0;
    bool with_vector = false;
    enum lh_status status = parse_limit(call, &limit, &error);
    if (status == LH_OK)
        status = lh__gateway_parse_flag(call, "with_vector", &with_vector, &error);
    if (status != LH_OK) {
        lh_http_answer_error(call, &error);
        return;
    }
    lh_http_call_query(call, "cursor", &cursor);
    struct lh_request *request = lh__gateway_request(context, call, LH_OP_ITEMS_PAGE);
    if (request == NULL)
        return;
    lh_buf_append_str(&request->text, cursor);
    request->page.limit = limit;
    request->with_vector = with_vector;
    lh__gateway_admit(context, request);
}
