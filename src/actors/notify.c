/* Telling the service manager. Loop thread; a datagram that cannot be sent is dropped, as a manager
 * that does not read must not hold up the loop. */
#include "actors/notify.h"

#include "base/str.h"
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

_Static_assert(sizeof((struct lh_notify *)0)->path == sizeof((struct sockaddr_un *)0)->sun_path,
               "the path of a socket");

static uint64_t number_of(const char *name)
{
    const char *text = getenv(name);
    uint64_t number = 0;
    return text != NULL && lh_str_to_u64(lh_str_of(text), &number) ? number : 0;
}

void lh_notify_init(struct lh_notify *notify)
{
    const char *path = getenv("NOTIFY_SOCKET");
    uint64_t watched_pid = number_of("WATCHDOG_PID");
    *notify = (struct lh_notify){.fd = -1};
    if (path == NULL || (path[0] != '/' && path[0] != '@') || path[1] == '\0' ||
        strlen(path) >= sizeof notify->path)
        return;
    strcpy(notify->path, path);
    notify->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (watched_pid == 0 || watched_pid == (uint64_t)getpid())
        notify->alive_every_ns = number_of("WATCHDOG_USEC") * 1000 / 2;
}

void lh_notify_deinit(struct lh_notify *notify)
{
    if (notify->fd > 0)
        close(notify->fd);
    notify->fd = -1;
}

static void say(struct lh_notify *notify, const char *text)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t len = strlen(notify->path);
    memcpy(to.sun_path, notify->path, len);
    if (notify->path[0] == '@')
        to.sun_path[0] = '\0'; /* the abstract namespace */
    if (notify->fd >= 0)
        (void)sendto(notify->fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT,
                     (const struct sockaddr *)(const void *)&to,
                     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
}

void lh_notify_ready(struct lh_notify *notify)
{
    if (!notify->is_ready)
        say(notify, "READY=1\nSTATUS=Serving\n");
    notify->is_ready = true;
}

void lh_notify_alive(struct lh_notify *notify, uint64_t now_ns)
{
    if (notify->alive_every_ns == 0 || now_ns - notify->alive_ns < notify->alive_every_ns)
        return;
    notify->alive_ns = now_ns;
    say(notify, "WATCHDOG=1\n");
}

void lh_notify_stopping(struct lh_notify *notify)
{
    if (!notify->is_stopping)
        say(notify, "STOPPING=1\nSTATUS=Stopping\n");
    notify->is_stopping = true;
}
