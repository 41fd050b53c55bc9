/* Services in other processes. Loop thread.
 *
 * Each is asked now and then whether it is ready, over the connections that requests go over, so
 * /readyz can say at once what cannot be reached. One that is not ready is asked more often:
 * whoever waits for it learns soon that it is back. */
#include "actors/proxy.h"

#include "net/forward.h"
#include <assert.h>
#include <stdio.h>
#include <string.h>

#define PROBE_UNREADY_MS 100u  /* a refused connection, or a short answer, costs next to nothing */
#define PROBE_TIMEOUT_MS 3000u /* a service that is loaded answers /readyz from its loop */

const char *lh_proxied_state_name(enum lh_proxied_state state)
{
    static const char *const names[] = {"asked", "ready", "loading", "unreachable"};
    return names[state];
}

/* ---- who is there ---- */

/* Logged when it is news. */
static void set_state(struct lh_proxied *service, enum lh_proxied_state state, const char *reason)
{
    bool is_down = state == LH_PROXIED_UNREACHABLE;
    enum lh_proxied_state before = service->state;
    service->state = state;
    snprintf(service->reason, sizeof service->reason, "%s", reason);
    if (state == before)
        return;
    lh_log_line(service->proxy->options.log, is_down ? LH_LOG_WARN : LH_LOG_INFO,
                "service behind the gateway", LH_LOG_TEXT("service", service->place->name),
                LH_LOG_STR("url", service->place->url),
                LH_LOG_TEXT("state", lh_proxied_state_name(state)), LH_LOG_TEXT("reason", reason));
}

static void on_probe_head(int status, const struct lh__head *head, void *arg)
{
    struct lh_proxied *service = arg;
    /* Any other answer is one, too: a service may not show strangers its readiness. */
    set_state(service, status == 503 ? LH_PROXIED_LOADING : LH_PROXIED_READY, "");
    (void)head;
}

static void on_probe_body(struct lh_str piece, void *arg)
{
    (void)piece;
    (void)arg;
}

static void on_probe_end(void *arg)
{
    struct lh_proxied *service = arg;
    service->probe = NULL;
}

static void on_probe_failed(const struct lh_error *error, void *arg)
{
    struct lh_proxied *service = arg;
    service->probe = NULL;
    /* That all connections are in use says nothing against it. */
    if (error->status != LH_OVERLOADED && error->status != LH_STOPPING)
        set_state(service, LH_PROXIED_UNREACHABLE, error->text);
}

static void on_probe_nothing(void *arg)
{
    (void)arg;
}

static struct lh_str peer_token(const struct lh_proxy *proxy)
{
    const struct lh_secrets *secrets = proxy->options.access->secrets;
    bool has_token = secrets != NULL && secrets->peer_token != NULL;
    return has_token ? lh_str_of(secrets->peer_token) : LH_STR("");
}

static void probe(struct lh_proxied *service, uint64_t now_ms)
{
    const struct lh_exchange_events events = {
        .on_writable = on_probe_nothing,
        .on_continue = on_probe_nothing,
        .on_head = on_probe_head,
        .on_body = on_probe_body,
        .on_end = on_probe_end,
        .on_failed = on_probe_failed,
        .arg = service,
    };
    struct lh_exchange_request request = {.is_safe = true};
    struct lh_str authority = lh_upstream_authority(service->upstream);
    struct lh_str prefix = lh_upstream_prefix(service->upstream);
    struct lh_str token = peer_token(service->proxy);
    struct lh_error error;
    lh_buf_printf(&request.head, "GET %.*s/readyz HTTP/1.1\r\nHost: %.*s\r\n", LH_STR_FMT(prefix),
                  LH_STR_FMT(authority));
    if (token.len > 0)
        lh_buf_printf(&request.head, "Authorization: Bearer %.*s\r\n", LH_STR_FMT(token));
    lh_buf_append_str(&request.head, LH_STR("\r\n"));
    service->probe_ms = now_ms;
    if (lh_exchange_begin(service->upstream, &request, &events, &service->probe, &error) == LH_OK)
        lh_exchange_end(service->probe);
    lh_buf_deinit(&request.head);
}

static void on_timer(struct lh_timer *timer, void *arg)
{
    struct lh_proxy *proxy = arg;
    struct lh_timers *timers = lh_http_server_timers(proxy->options.http);
    uint64_t now_ms = timers->now_ms;
    for (uint32_t i = 0; i < proxy->count; i++) {
        struct lh_proxied *service = &proxy->services[i];
        bool is_ready = service->state == LH_PROXIED_READY;
        if (service->probe == NULL) {
            if (!is_ready || now_ms - service->probe_ms >= proxy->probe_every_ms)
                probe(service, now_ms);
        } else if (now_ms - service->probe_ms > PROBE_TIMEOUT_MS) {
            lh_exchange_cancel(service->probe);
            service->probe = NULL;
            set_state(service, LH_PROXIED_UNREACHABLE, "/readyz is not answered");
        }
    }
    bool is_all_ready = lh_proxy_find_unready(proxy) == NULL;
    lh_timer_set(timers, timer, is_all_ready ? proxy->probe_every_ms : PROBE_UNREADY_MS);
}

const struct lh_proxied *lh_proxy_find_unready(const struct lh_proxy *proxy)
{
    for (uint32_t i = 0; i < proxy->count; i++) {
        if (proxy->services[i].state != LH_PROXIED_READY)
            return &proxy->services[i];
    }
    return NULL;
}

/* ---- calls ---- */

static void count_bytes(struct lh_http_call *call, size_t bytes, void *arg)
{
    struct lh_proxy *proxy = arg;
    lh_access_count_bytes(proxy->options.access, call, bytes);
}

/* Limits that a handler would have to look for in the body cannot be held here, as nobody reads a
 * body on its way. False: answered. */
static bool check_reach(struct lh_proxy *proxy, struct lh_http_call *call)
{
    const struct lh_token *token;
    struct lh_error error;
    if (lh_http_call_route(call)->reach != LH_HTTP_REACH_HANDLER)
        return true;
    if (!lh_access_token(proxy->options.access, call, &token))
        return false;
    if (token == NULL || !lh_token_is_limited(token))
        return true;
    lh_error_set(&error, LH_FORBIDDEN,
                 "token \"%.64s\" is limited, and this route is served by another process",
                 token->name);
    lh_http_answer_error(call, &error);
    return false;
}

void lh_proxy_forward(struct lh_proxy *proxy, struct lh_http_call *call)
{
    const struct lh_http_forward_options options = {
        .token = peer_token(proxy), .on_unannounced = count_bytes, .arg = proxy};
    unsigned wanted = lh_http_call_route(call)->services;
    uint32_t i = 0;
    while ((proxy->services[i].place->service & wanted) == 0) {
        i++;
        assert(i < proxy->count); /* only their routes come here */
    }
    if (check_reach(proxy, call))
        lh_http_forward(call, proxy->services[i].upstream, &options);
}

enum lh_status lh_proxy_init(struct lh_proxy *proxy, const struct lh_proxy_options *options,
                             const struct lh_config *config, struct lh_error *error)
{
    struct lh_upstream_options upstream = {
        .connections_max = (uint32_t)lh_config_integer(config, "gateway.proxy_connections"),
        .waiting_max = (uint32_t)lh_config_integer(config, "gateway.proxy_waiting"),
        .connect_timeout_ms = lh_config_integer(config, "gateway.proxy_connect_timeout"),
        .timeout_ms = lh_config_integer(config, "gateway.proxy_timeout"),
    };
    *proxy = (struct lh_proxy){
        .options = *options,
        .probe_every_ms = lh_config_integer(config, "gateway.proxy_probe_every"),
    };
    lh_timer_init(&proxy->timer, on_timer, proxy);
    for (unsigned i = 0; i < LH_SERVICES; i++) {
        const struct lh_service_place *place = &options->services->places[i];
        struct lh_proxied *service = &proxy->services[proxy->count];
        if (place->url.len == 0)
            continue;
        upstream.name = place->name;
        upstream.url = place->url;
        *service = (struct lh_proxied){.proxy = proxy, .place = place};
        enum lh_status status =
            lh_upstream_create(options->http, &upstream, &service->upstream, error);
        if (status != LH_OK) {
            lh_config_blame(config, place->url_key, error);
            return status;
        }
        proxy->count++;
    }
    if (proxy->count > 0)
        lh_timer_set(lh_http_server_timers(options->http), &proxy->timer, 0);
    return LH_OK;
}

/* ---- metrics ---- */

static void append_sample(struct lh_buf *out, const struct lh_proxied *service, const char *name,
                          const char *more, double value)
{
    char labels[64];
    snprintf(labels, sizeof labels, "service=\"%s\"%s", service->place->name, more);
    lh_metrics_sample(out, name, labels, value);
}

/* One counter of each upstream, as a family. */
static void append_counters(const struct lh_proxy *proxy, struct lh_buf *out, const char *name,
                            const char *help, size_t offset)
{
    lh_metrics_family(out, name, "counter", help);
    for (uint32_t i = 0; i < proxy->count; i++) {
        const char *metrics = (const void *)lh_upstream_metrics(proxy->services[i].upstream);
        const struct lh_counter *counter = (const void *)(metrics + offset);
        append_sample(out, &proxy->services[i], name, "", (double)lh_counter_get(counter));
    }
}

static void append_connections(const struct lh_proxy *proxy, struct lh_buf *out)
{
    lh_metrics_family(out, "lakehouse_upstream_connections", "gauge",
                      "Connections to services in other processes");
    for (uint32_t i = 0; i < proxy->count; i++) {
        const struct lh_upstream *upstream = proxy->services[i].upstream;
        uint32_t idle = lh_upstream_idle(upstream);
        append_sample(out, &proxy->services[i], "lakehouse_upstream_connections", ",state=\"idle\"",
                      idle);
        append_sample(out, &proxy->services[i], "lakehouse_upstream_connections", ",state=\"busy\"",
                      lh_upstream_open(upstream) - idle);
    }
    lh_metrics_family(out, "lakehouse_upstream_waiting", "gauge",
                      "Requests that wait for such a connection");
    for (uint32_t i = 0; i < proxy->count; i++)
        append_sample(out, &proxy->services[i], "lakehouse_upstream_waiting", "",
                      lh_upstream_waiting(proxy->services[i].upstream));
    lh_metrics_family(out, "lakehouse_upstream_ready", "gauge",
                      "Whether the service answers that it is ready");
    for (uint32_t i = 0; i < proxy->count; i++)
        append_sample(out, &proxy->services[i], "lakehouse_upstream_ready", "",
                      proxy->services[i].state == LH_PROXIED_READY);
}

void lh_proxy_metrics(const struct lh_proxy *proxy, struct lh_buf *out)
{
    if (proxy->count == 0)
        return;
#define COUNTERS(name, help, field) \
    append_counters(proxy, out, name, help, offsetof(struct lh_upstream_metrics, field))
    COUNTERS("lakehouse_upstream_requests_total", "Requests for services in other processes",
             requests);
    COUNTERS("lakehouse_upstream_failures_total",
             "Requests that they did not answer, or not wholly", failures);
    COUNTERS("lakehouse_upstream_refused_total", "Requests that got no connection", refused);
    COUNTERS("lakehouse_upstream_retries_total",
             "Requests sent again, as a kept connection was dead", retries);
    COUNTERS("lakehouse_upstream_connects_total", "Connections made", connects);
#undef COUNTERS
    append_connections(proxy, out);
    lh_metrics_family(out, "lakehouse_upstream_answer_seconds", "histogram",
                      "From the request's header to the end of the answer's");
    for (uint32_t i = 0; i < proxy->count; i++) {
        char labels[32];
        snprintf(labels, sizeof labels, "service=\"%s\"", proxy->services[i].place->name);
        lh_metrics_histogram(out, "lakehouse_upstream_answer_seconds", labels,
                             &lh_upstream_metrics(proxy->services[i].upstream)->latency);
    }
}
