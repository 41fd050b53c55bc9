/* What the service manager is told: systemd's sd_notify protocol, datagrams to $NOTIFY_SOCKET. Loop
 * thread. Without a manager all of it does nothing. */
#ifndef LH_ACTORS_NOTIFY_H
#define LH_ACTORS_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>

struct lh_notify {
    int fd;                  /* -1: nobody listens */
    char path[108];          /* of the manager's socket, as sun_path has it at most */
    uint64_t alive_every_ns; /* half of what the watchdog grants; 0: there is none */
    uint64_t alive_ns;       /* last said */
    bool is_ready;           /* said */
    bool is_stopping;        /* said */
};

/* Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, as sd_notify(3) and sd_watchdog_enabled(3)
 * describe them. */
void lh_notify_init(struct lh_notify *notify);
void lh_notify_deinit(struct lh_notify *notify);

/* Each is said once, or for the watchdog as often as it wants. */
void lh_notify_ready(struct lh_notify *notify);
void lh_notify_alive(struct lh_notify *notify, uint64_t now_ns);
void lh_notify_stopping(struct lh_notify *notify);

#endif
