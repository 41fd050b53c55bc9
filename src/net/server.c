/* The HTTP server: its loop, its listeners, its mailbox, its stop. Loop thread, except that
 * lh_http_server_mailbox's mailbox is pushed to from any.
 *
 * One turn of the loop: expired timers, then (prepare) the calls that wait and the connections
 * that are ready, then what the sockets and the mailbox bring. */
#include "net/internal.h"

#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>

void lh__server_ready(struct lh__conn *conn)
{
    if (!conn->closed && lh__link_is_alone(&conn->ready)) {
        lh__link_append(&conn->server->ready, &conn->ready);
    }
}

/* Those that are ready now; who becomes ready meanwhile waits for the next round. */
static void lh__server_run_ready(struct lh_http_server *server)
{
    struct lh__link mark;

    lh__link_append(&server->ready, &mark);
    while (server->ready.next != &mark) {
        struct lh__conn *conn = lh__conn_of(server->ready.next, ready);
        lh__link_remove(&conn->ready);
        lh__conn_go_on(conn);
    }
    lh__link_remove(&mark);
}

static void lh__server_on_idle(uv_idle_t *idle)
{
    (void)idle; /* that it is active is enough */
}

/* A service that gives a piece whenever it is asked is ready again at once: the rounds are counted,
 * so that it does not keep the loop from all others. */
static void lh__server_on_prepare(uv_prepare_t *prepare)
{
    struct lh_http_server *server = prepare->data;

    lh__request_let_in(server);
    lh__upstreams_flush(server);
    for (unsigned i = 0; i < LH__READY_ROUNDS && !lh__link_is_alone(&server->ready); i++) {
        lh__server_run_ready(server);
        lh__request_let_in(server);
        lh__upstreams_flush(server);
    }
    if (server->is_idle_on == lh__link_is_alone(&server->ready)) {
        server->is_idle_on = !server->is_idle_on;
        if (server->is_idle_on) {
            uv_idle_start(&server->idle, lh__server_on_idle);
        } else {
            uv_idle_stop(&server->idle);
        }
    }
}

static void lh__server_wake(void *arg)
{
    struct lh_http_server *server = arg;

    uv_async_send(&server->async);
}

static void lh__server_on_async(uv_async_t *async)
{
    struct lh_http_server *server = async->data;
    struct lh_msg *msg;

    lh_mailbox_drain(&server->mailbox, server->inbox);
    for (unsigned lane = 0; lane < LH_LANES; lane++) {
        while ((msg = lh_msg_queue_take(&server->inbox[lane])) != NULL) {
            server->options.on_message(msg, server->options.context);
        }
    }
    if (server->options.on_tick != NULL) {
        server->options.on_tick(server->options.context);
    }
}

static void lh__server_update_date(struct lh_http_server *server)
{
    time_t now = (time_t)(lh_clock_wall_ms() / 1000);
    struct tm tm;

    if ((uint64_t)now != server->date_s) {
        server->date_s = (uint64_t)now;
        gmtime_r(&now, &tm); /* the C locale: nothing here calls setlocale */
        strftime(server->date, sizeof server->date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    }
}

static void lh__server_accept_held(struct lh_http_server *server)
{
    for (struct lh__listener *at = server->listeners; at != NULL; at = at->next) {
        if (at->is_held) {
            lh__conn_accept(at);
        }
    }
}

static void lh__server_on_timer(uv_timer_t *ticker)
{
    struct lh_http_server *server = ticker->data;

    lh__server_update_date(server);
    lh__server_accept_held(server);
    lh_timers_advance(&server->timers, uv_now(&server->loop));
    if (server->options.on_tick != NULL) {
        server->options.on_tick(server->options.context);
    }
}

static void lh__server_on_drained(struct lh_http_server *server)
{
    lh_timer_cancel(&server->drain);
    if (!server->stopped) {
        server->stopped = true;
        if (server->options.on_stopped != NULL) {
            server->options.on_stopped(server->options.context);
        }
    }
}

static void lh__server_on_drain_deadline(struct lh_timer *timer, void *arg)
{
    struct lh_http_server *server = arg;

    /* A request that is still arriving could go on for as long as its client likes, and so could
     * an answer in pieces. */
    for (struct lh__link *at = server->conns.next; at != &server->conns; at = at->next) {
        struct lh__conn *conn = lh__conn_of(at, all);
        if (conn->call != NULL && (!conn->call->complete || conn->call->begun)) {
            lh__conn_abort(conn);
        }
    }
    lh__server_on_drained(server);
}

void lh__server_conn_gone(struct lh_http_server *server)
{
    if (server->stopping && server->conn_count + server->refused_count == 0) {
        lh__server_on_drained(server);
    }
}

/* Everything of the server that libuv calls, started. */
static int lh__server_start_loop(struct lh_http_server *server)
{
    int err = uv_loop_init(&server->loop);

    if (err == 0) {
        err = uv_async_init(&server->loop, &server->async, lh__server_on_async);
        assert(err == 0 || err == UV_EMFILE || err == UV_ENFILE || err == UV_ENOMEM);
    }
    if (err == 0) {
        uv_timer_init(&server->loop, &server->ticker);
        uv_prepare_init(&server->loop, &server->prepare);
        uv_idle_init(&server->loop, &server->idle);
        server->async.data = server->ticker.data = server->prepare.data = server;
        uv_timer_start(&server->ticker, lh__server_on_timer, LH_TIMER_TICK_MS, LH_TIMER_TICK_MS);
        uv_prepare_start(&server->prepare, lh__server_on_prepare);
    }
    return err;
}

/* A descriptor a connection, and some for the rest of the process; where the system gives fewer,
 * connections get what the rest can spare. */
static void lh__claim_descriptors(struct lh_http_server *server)
{
    struct rlimit limit;
    uint64_t want =
        (uint64_t)server->options.connections_max + LH__CONNECTIONS_REFUSED + LH__DESCRIPTORS_OTHER;

    server->descriptors_max = UINT64_MAX;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return;
    }
    if (limit.rlim_cur < want) {
        limit.rlim_cur = limit.rlim_max < want ? limit.rlim_max : want;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    if (limit.rlim_cur < want) {
        bool is_small = limit.rlim_cur < 2 * LH__DESCRIPTORS_OTHER;
        server->descriptors_max =
            is_small ? limit.rlim_cur / 2 : limit.rlim_cur - LH__DESCRIPTORS_OTHER;
        lh_log_line(server->options.log, LH_LOG_WARN, "descriptor limit is below connections_max",
                    LH_LOG_U64("limit", limit.rlim_cur), LH_LOG_U64("wanted", want));
    }
}

enum lh_status lh_http_server_create(const struct lh_http_options *options,
                                     struct lh_http_server **server, struct lh_error *error)
{
    struct lh_http_server *made = calloc(1, sizeof *made);
    enum lh_status status = LH_OUT_OF_MEMORY;
    int err;

    if (made == NULL) {
        return lh_error_set(error, LH_OUT_OF_MEMORY, "no memory for the HTTP server");
    }
    made->options = *options;
    made->slot_free = UINT32_MAX;
    lh__link_init(&made->conns);
    lh__link_init(&made->waiting_body);
    lh__link_init(&made->ready);
    lh__link_init(&made->unflushed);
    status = lh__router_create(options->routes, options->route_count, &made->router, error);
    if (status == LH_OK) {
        status = lh__metrics_create(made);
    }
    if (status == LH_OK) {
        status = lh__server_load_tls(made, error);
    }
    if (status != LH_OK) {
        goto fail;
    }
    err = lh__server_start_loop(made);
    if (err != 0) {
        status = lh_error_sys(error, LH_IO, -err, "cannot make an event loop");
        goto fail;
    }
    lh_timers_init(&made->timers, uv_now(&made->loop));
    lh_timer_init(&made->drain, lh__server_on_drain_deadline, made);
    lh_mailbox_init(&made->mailbox, lh__server_wake, made);
    /* Ids of two runs do not meet; any start will do when there is no randomness. */
    if (getrandom(&made->request_id, sizeof made->request_id, GRND_NONBLOCK) < 0) {
        made->request_id = lh_clock_wall_ms() << 20;
    }
    signal(SIGPIPE, SIG_IGN); /* a client that left is an error of its write, not of the process */
    lh__claim_descriptors(made);
    lh__server_update_date(made);
    *server = made;
    return LH_OK;
fail:
    lh__tls_context_unref(made->tls);
    lh__metrics_destroy(made);
    lh__router_destroy(made->router);
    free(made);
    return status;
}

static void lh__server_on_connection(uv_stream_t *stream, int status)
{
    struct lh__listener *listener = stream->data;
    struct lh_http_server *server = listener->server;
    uint64_t now_ms = uv_now(&server->loop);

    if (status == 0) {
        lh__conn_accept(listener);
    } else if (server->accept_error_ms == 0 || now_ms - server->accept_error_ms > 1000) {
        /* Out of descriptors: libuv has shed what waited, so that accept does not spin. */
        server->accept_error_ms = now_ms;
        lh_log_line(server->options.log, LH_LOG_WARN, "accept failed",
                    LH_LOG_TEXT("error", uv_strerror(status)));
    }
}

static int lh__resolve(const struct lh_http_bind *bind, struct sockaddr_storage *address)
{
    char host[256];
    uv_getaddrinfo_t req;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    int err;

    if (bind->host.len >= sizeof host) {
        return UV_EINVAL;
    }
    memcpy(host, bind->host.ptr, bind->host.len);
    host[bind->host.len] = '\0';
    if (strcmp(host, "localhost") == 0) {
        strcpy(host, "127.0.0.1"); /* one address a bind: the one that clients try */
    }
    if (uv_ip4_addr(host, bind->port, (struct sockaddr_in *)(void *)address) == 0 ||
        uv_ip6_addr(host, bind->port, (struct sockaddr_in6 *)(void *)address) == 0) {
        return 0;
    }
    err = uv_getaddrinfo(NULL, &req, NULL, host, NULL, &hints);
    if (err == 0) {
        memcpy(address, req.addrinfo->ai_addr, req.addrinfo->ai_addrlen);
        ((struct sockaddr_in *)(void *)address)->sin_port =
            htons(bind->port); /* as in sockaddr_in6 */
        uv_freeaddrinfo(req.addrinfo);
    }
    return err;
}

static const char *lh__service_name(enum lh_http_service service)
{
    switch (service) {
    case LH_HTTP_GATEWAY:
        return "gateway";
    case LH_HTTP_VECTORD:
        return "vectord";
    case LH_HTTP_STORAGED:
        return "storaged";
    case LH_HTTP_CATALOGD:
        return "catalogd";
    case LH_HTTP_INGESTD:
        return "ingestd";
    case LH_HTTP_QUERYD:
        return "queryd";
    case LH_HTTP_EVERYWHERE:
        break;
    }
    return "unknown";
}

static void lh__listener_on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

/* Reads back the port, which may have been 0, and says it. */
static void lh__listener_announce(struct lh__listener *listener)
{
    struct sockaddr_storage address;
    int len = sizeof address;
    char host[64] = "";
    char text[80];
    const char *form = "%s:%u";

    if (uv_tcp_getsockname(&listener->tcp, (struct sockaddr *)&address, &len) == 0) {
        listener->port = ntohs(((struct sockaddr_in *)(void *)&address)->sin_port);
        uv_ip_name((struct sockaddr *)&address, host, sizeof host);
        form = address.ss_family == AF_INET6 ? "[%s]:%u" : "%s:%u";
    }
    snprintf(text, sizeof text, form, host, listener->port);
    lh_log_line(listener->server->options.log, LH_LOG_INFO, "listening",
                LH_LOG_TEXT("service", lh__service_name(listener->service)),
                LH_LOG_TEXT("bind", text),
                LH_LOG_TEXT("scheme", listener->server->tls != NULL ? "https" : "http"));
}

enum lh_status lh_http_server_listen(struct lh_http_server *server, const struct lh_http_bind *bind,
                                     struct lh_error *error)
{
    struct lh__listener *listener = calloc(1, sizeof *listener);
    struct sockaddr_storage address = {0};
    int err;

    if (listener == NULL) {
        return lh_error_set(error, LH_OUT_OF_MEMORY, "no memory for a listener");
    }
    listener->server = server;
    listener->service = bind->service;
    uv_tcp_init(&server->loop, &listener->tcp);
    listener->tcp.data = listener;
    err = lh__resolve(bind, &address);
    if (err == 0) {
        err = uv_tcp_bind(&listener->tcp, (struct sockaddr *)&address, 0);
    }
    if (err == 0) {
        err = uv_listen((uv_stream_t *)&listener->tcp, LH__BACKLOG, lh__server_on_connection);
    }
    if (err != 0) {
        uv_close((uv_handle_t *)&listener->tcp, lh__listener_on_closed);
        return lh_error_set(error, LH_IO, "cannot listen on %.*s:%u for %s: %s",
                            LH_STR_FMT(bind->host), bind->port, lh__service_name(bind->service),
                            uv_strerror(err));
    }
    listener->next = server->listeners;
    server->listeners = listener;
    lh__listener_announce(listener);
    return LH_OK;
}

void lh_http_server_run(struct lh_http_server *server)
{
    uv_run(&server->loop, UV_RUN_DEFAULT);
}

static void lh__server_on_signal(uv_signal_t *handle, int signum)
{
    struct lh_http_server *server = handle->data;

    if (signum == SIGHUP) {
        server->options.on_hangup(server->options.context);
        return;
    }
    lh_log_line(server->options.log, LH_LOG_INFO, "stopping",
                LH_LOG_TEXT("signal", strsignal(signum)));
    lh_http_server_stop(server);
}

enum lh_status lh_http_server_watch_signals(struct lh_http_server *server, struct lh_error *error)
{
    const int signums[] = {SIGTERM, SIGINT, SIGHUP};
    unsigned count = server->options.on_hangup != NULL ? 3 : 2;

    for (unsigned i = 0; i < count; i++) {
        int err;
        uv_signal_init(&server->loop, &server->signals[i]);
        server->signals[i].data = server;
        server->signal_count++;
        err = uv_signal_start(&server->signals[i], lh__server_on_signal, signums[i]);
        if (err != 0) {
            return lh_error_sys(error, LH_IO, -err, "cannot watch signals");
        }
    }
    return LH_OK;
}

static void lh__server_close_listeners(struct lh_http_server *server)
{
    while (server->listeners != NULL) {
        struct lh__listener *listener = server->listeners;
        server->listeners = listener->next;
        uv_close((uv_handle_t *)&listener->tcp, lh__listener_on_closed);
    }
}

void lh_http_server_stop(struct lh_http_server *server)
{
    if (server->stopping) {
        server->aborted = true;
        lh__server_on_drained(server);
        lh_http_server_finish(server);
        return;
    }
    server->stopping = true;
    lh__server_close_listeners(server);
    for (struct lh__link *at = server->conns.next; at != &server->conns; at = at->next) {
        lh__server_ready(lh__conn_of(at, all)); /* idle ones close, the others know it now */
    }
    lh_timer_set(&server->timers, &server->drain, server->options.drain_timeout_ms);
    if (server->conn_count + server->refused_count == 0) {
        lh__server_on_drained(server);
    }
}

bool lh_http_server_is_stopping(const struct lh_http_server *server)
{
    return server->stopping;
}

bool lh_http_server_was_aborted(const struct lh_http_server *server)
{
    return server->aborted;
}

void lh_http_server_finish(struct lh_http_server *server)
{
    if (server->finished) {
        return;
    }
    server->finished = true;
    server->stopping = true;
    lh__server_close_listeners(server);
    lh_timer_cancel(&server->drain);
    for (struct lh__link *at = server->conns.next; at != &server->conns; at = at->next) {
        lh__conn_abort(lh__conn_of(at, all)); /* unlinked when libuv has closed it */
    }
    lh__upstreams_close(server);
    /* Not closed before destroy: a thread may have pushed its last reply and not yet woken us. */
    uv_unref((uv_handle_t *)&server->async);
    uv_close((uv_handle_t *)&server->ticker, NULL);
    uv_close((uv_handle_t *)&server->prepare, NULL);
    uv_close((uv_handle_t *)&server->idle, NULL);
    for (unsigned i = 0; i < server->signal_count; i++) {
        uv_close((uv_handle_t *)&server->signals[i], NULL);
    }
}

void lh_http_server_destroy(struct lh_http_server *server)
{
    int err;

    if (server == NULL) {
        return;
    }
    lh_http_server_finish(server);
    uv_close((uv_handle_t *)&server->async, NULL);
    uv_run(&server->loop, UV_RUN_DEFAULT); /* close callbacks */
    err = uv_loop_close(&server->loop);
    assert(err == 0);
    (void)err;
    while (server->pool != NULL) {
        struct lh_http_call *call = server->pool;
        server->pool = call->next;
        lh_buf_deinit(&call->extra);
        free(call->head_bytes);
        free(call);
    }
    lh__upstreams_free(server);
    lh_buf_deinit(&server->out);
    while (server->spare_count > 0) {
        lh_buf_deinit(&server->spares[--server->spare_count]);
    }
    lh__pipes_close(server);
    lh__tls_context_unref(server->tls);
    lh__metrics_destroy(server);
    lh__router_destroy(server->router);
    free(server->slots);
    free(server);
}

struct lh_mailbox *lh_http_server_mailbox(struct lh_http_server *server)
{
    return &server->mailbox;
}

struct lh_timers *lh_http_server_timers(struct lh_http_server *server)
{
    return &server->timers;
}
