/* Uploads a file over and over, each time as an object of its own, and takes little of the machine
 * for itself: the file goes from the page cache to the sockets (sendfile), one thread has them all.
 * wrk makes each body anew in Lua, which costs as much as sending it.
 *
 *     bench_upload PORT PATH CONNECTIONS FILE SECONDS
 *
 * PUTs to PATH/0, PATH/1 and so on at 127.0.0.1:PORT, one at a time on each connection. Prints how
 * many were answered 200 in which time, the 99th percentile from the first byte sent to the answer,
 * and ends with an error at any other answer. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS_MAX 1024u
#define TIMES_MAX       (1u << 22)
#define EVENTS          64

struct connection {
    int socket;
    uint64_t since_ns;
    size_t head_len, head_sent;
    off_t file_sent;
    size_t answer_len;
    char head[512];
    char answer[4096];
};

static struct {
    const char *path;
    int file;
    off_t bytes;
    uint64_t until_ns;
    uint64_t started, answered;
    uint32_t open; /* connections whose last answer is still to come */
    uint32_t *us;  /* of each upload */
} all;

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void check(long rc, const char *doing)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "bench_upload: %s: %s\n", doing, strerror(errno));
    exit(1);
}

static void start(struct connection *of)
{
    of->since_ns = now_ns();
    of->head_len =
        (size_t)snprintf(of->head, sizeof of->head,
                         "PUT %s/%llu HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                         "Content-Length: %lld\r\n\r\n",
                         all.path, (unsigned long long)all.started++, (long long)all.bytes);
    of->head_sent = of->answer_len = 0;
    of->file_sent = 0;
}

/* As much as the socket takes. */
static void send_more(struct connection *of)
{
    while (of->head_sent < of->head_len) {
        ssize_t sent = send(of->socket, of->head + of->head_sent, of->head_len - of->head_sent,
                            MSG_MORE | MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN)
            return;
        check(sent, "send");
        of->head_sent += (size_t)sent;
    }
    while (of->file_sent < all.bytes) {
        ssize_t sent =
            sendfile(of->socket, all.file, &of->file_sent, (size_t)(all.bytes - of->file_sent));
        if (sent < 0 && errno == EAGAIN)
            return;
        check(sent == 0 ? (errno = ENODATA, -1) : sent, "sendfile");
    }
}

/* True: the answer is there, whole. */
static bool read_answer(struct connection *of)
{
    ssize_t got =
        recv(of->socket, of->answer + of->answer_len, sizeof of->answer - 1 - of->answer_len, 0);
    if (got < 0 && errno == EAGAIN)
        return false;
    check(got, "recv");
    of->answer_len += (size_t)got;
    of->answer[of->answer_len] = '\0';
    const char *body = strstr(of->answer, "\r\n\r\n");
    const char *length = strcasestr(of->answer, "\r\ncontent-length:");
    if (got > 0 && of->answer_len < sizeof of->answer - 1 &&
        (body == NULL || length == NULL ||
         of->answer_len < (size_t)(body + 4 - of->answer) + strtoul(length + 17, NULL, 10)))
        return false;
    if (strncmp(of->answer, "HTTP/1.1 200 ", 13) != 0) {
        fprintf(stderr, "bench_upload: answered: %s\n", got == 0 ? "(closed)" : of->answer);
        exit(1);
    }
    return true;
}

static void on_event(struct connection *of)
{
    send_more(of);
    if (!read_answer(of))
        return;
    if (all.answered < TIMES_MAX)
        all.us[all.answered] = (uint32_t)((now_ns() - of->since_ns) / 1000);
    all.answered++;
    if (now_ns() >= all.until_ns) {
        all.open--;
        return;
    }
    start(of);
    send_more(of);
}

static void connect_to(struct connection *of, int port, int poll)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = of};
    int on = 1;
    of->socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    check(of->socket, "socket");
    check(connect(of->socket, (struct sockaddr *)&to, sizeof to), "connect");
    check(setsockopt(of->socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), "TCP_NODELAY");
    check(fcntl(of->socket, F_SETFL, O_NONBLOCK), "O_NONBLOCK");
    check(epoll_ctl(poll, EPOLL_CTL_ADD, of->socket, &event), "epoll_ctl");
    start(of);
    send_more(of);
}

static int by_size(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a;
    uint32_t right = *(const uint32_t *)b;
    return left < right ? -1 : left > right;
}

int main(int argc, char **argv)
{
    unsigned count = argc == 6 ? (unsigned)strtoul(argv[3], NULL, 10) : 0;
    struct stat stat;
    if (count == 0 || count > CONNECTIONS_MAX) {
        fprintf(stderr, "usage: bench_upload PORT PATH CONNECTIONS FILE SECONDS\n");
        return 2;
    }
    all.path = argv[2];
    all.file = open(argv[4], O_RDONLY | O_CLOEXEC);
    check(all.file, argv[4]);
    check(fstat(all.file, &stat), argv[4]);
    all.bytes = stat.st_size;
    all.us = malloc(TIMES_MAX * sizeof *all.us);
    struct connection *connections = calloc(count, sizeof *connections);
    int poll = epoll_create1(EPOLL_CLOEXEC);
    check(all.us == NULL || connections == NULL ? -1 : poll, "starting");
    uint64_t since_ns = now_ns();
    all.until_ns = since_ns + (uint64_t)(strtod(argv[5], NULL) * 1e9);
    all.open = count;
    for (unsigned i = 0; i < count; i++)
        connect_to(&connections[i], atoi(argv[1]), poll);
    while (all.open > 0) {
        struct epoll_event events[EVENTS];
        int n = epoll_wait(poll, events, EVENTS, 60000);
        check(n == 0 ? (errno = ETIMEDOUT, -1) : n, "waiting for an answer");
        for (int i = 0; i < n; i++)
            on_event(events[i].data.ptr);
    }
    uint64_t timed = all.answered < TIMES_MAX ? all.answered : TIMES_MAX;
    double seconds = (double)(now_ns() - since_ns) / 1e9;
    qsort(all.us, timed, sizeof *all.us, by_size);
    printf("uploads %llu seconds %.3f p99_us %u\n", (unsigned long long)all.answered, seconds,
           all.us[timed * 99 / 100]);
    free(all.us);
    free(connections);
    return 0;
}
