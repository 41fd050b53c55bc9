/* A listener goes on after it could not accept for want of memory. The build wraps calloc here. */
#include "base/log.h"
#include "net/http.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);

static _Thread_local int refusals; /* so many callocs of this thread fail */
static _Thread_local int refused;

void *__wrap_calloc(size_t count, size_t size)
{
    if (refusals > 0) {
        refusals--;
        refused++;
        return NULL;
    }
    return __real_calloc(count, size);
}

static void handle_refuse(struct lh_http_call *call, void *context)
{
    refusals = 3; /* the next connection meets two ticks without memory, too */
    lh_http_answer(call, 204, NULL, NULL);
    (void)context;
}

static void handle_count(struct lh_http_call *call, void *context)
{
    struct lh_buf body = LH_BUF_EMPTY;
    lh_buf_printf(&body, "%d", refused);
    lh_http_answer(call, 200, "text/plain", &body);
    (void)context;
}

static const struct lh_route routes[] = {
    {.method = LH_HTTP_GET,
     .pattern = "/refuse",
     .services = LH_HTTP_EVERYWHERE,
     .handle = handle_refuse,
     .operation = "refuse",
     .summary = "",
     .success = 204},
    {.method = LH_HTTP_GET,
     .pattern = "/count",
     .services = LH_HTTP_EVERYWHERE,
     .handle = handle_count,
     .operation = "count",
     .summary = "",
     .success = 200},
};

static void on_stopped(void *context)
{
    lh_http_server_finish(*(struct lh_http_server **)context);
}

static void *run(void *server)
{
    lh_http_server_run(server);
    return NULL;
}

/* An answer on a connection of its own, which is closed behind it. */
static void ask(uint16_t port, const char *path, char answer[1024])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct timeval patience = {.tv_sec = 10};
    size_t len = 0;
    ssize_t n;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    dprintf(fd, "GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", path);
    while ((n = read(fd, answer + len, 1023 - len)) > 0)
        len += (size_t)n;
    assert_int_equal(n, 0); /* not a time-out */
    answer[len] = '\0';
    close(fd);
}

/* One that nobody has, and that the kernel gives to nobody who asks for any: below
 * net.ipv4.ip_local_port_range. */
static uint16_t free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    uint16_t port = (uint16_t)(10240 + (unsigned)getpid() % 20000);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (bool is_free = false; !is_free; port++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        address.sin_port = htons(port);
        is_free = bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
        close(fd);
    }
    return ntohs(address.sin_port);
}

static void a_listener_without_memory_for_a_connection_accepts_it_later(void **state)
{
    struct lh_http_server *server = NULL;
    const struct lh_log log = {.fd = STDERR_FILENO, .level = {LH_LOG_ERROR}};
    struct lh_error error;
    pthread_t thread;
    char answer[1024];
    uint16_t port = free_port();
    struct lh_http_options options = {
        .routes = routes,
        .route_count = sizeof routes / sizeof *routes,
        .context = &server,
        .on_stopped = on_stopped,
        .log = &log,
        .body_bytes_max = 1024,
        .body_bytes_in_flight_max = 1024,
        .connections_max = 16,
        .header_timeout_ms = 60000,
        .idle_timeout_ms = 60000,
        .write_timeout_ms = 60000,
        .drain_timeout_ms = 1000,
    };
    struct lh_http_bind bind = {LH_STR("127.0.0.1"), port, LH_HTTP_GATEWAY};
    assert_int_equal(lh_http_server_create(&options, &server, &error), LH_OK);
    assert_int_equal(lh_http_server_listen(server, &bind, &error), LH_OK);
    assert_int_equal(lh_http_server_watch_signals(server, &error), LH_OK);
    assert_int_equal(pthread_create(&thread, NULL, run, server), 0);

    ask(port, "/refuse", answer);
    assert_memory_equal(answer, "HTTP/1.1 204", 12);
    ask(port, "/count", answer);
    assert_memory_equal(answer, "HTTP/1.1 200", 12);
    assert_string_equal(strstr(answer, "\r\n\r\n") + 4, "3");
    ask(port, "/count", answer);
    assert_memory_equal(answer, "HTTP/1.1 200", 12);

    kill(getpid(), SIGTERM);
    pthread_join(thread, NULL);
    lh_http_server_destroy(server);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_listener_without_memory_for_a_connection_accepts_it_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
