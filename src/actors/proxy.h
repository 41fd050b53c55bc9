/* The gateway's way to services in other processes: which routes go where, and who is there. */
#ifndef LH_ACTORS_PROXY_H
#define LH_ACTORS_PROXY_H

#include "actors/access.h"
#include "actors/services.h"
#include "base/log.h"
#include "net/upstream.h"

struct lh_proxy;

enum lh_proxied_state {
    LH_PROXIED_ASKED,       /* not known yet */
    LH_PROXIED_READY,       /* it answers /readyz */
    LH_PROXIED_LOADING,     /* it answers that it is not ready */
    LH_PROXIED_UNREACHABLE, /* it does not answer, for `reason` */
};

/* A service in another process, and its last answer to the question whether it is ready. */
struct lh_proxied {
    struct lh_proxy *proxy;
    const struct lh_service_place *place;
    struct lh_upstream *upstream;
    struct lh_exchange *probe; /* under way */
    uint64_t probe_ms;         /* since then */
    enum lh_proxied_state state;
    char reason[160];
};

struct lh_proxy_options {
    struct lh_http_server *http;
    struct lh_access *access;
    const struct lh_services *services; /* outlives the proxy */
    const struct lh_log *log;
};

struct lh_proxy {
    struct lh_proxy_options options;
    struct lh_timer timer; /* to the next probes */
    uint64_t probe_every_ms;
    struct lh_proxied services[LH_SERVICES];
    uint32_t count;
};

/* With no service elsewhere it does nothing. */
LH_MUST_USE enum lh_status lh_proxy_init(struct lh_proxy *proxy,
                                         const struct lh_proxy_options *options,
                                         const struct lh_config *config, struct lh_error *error);

/* Sends a call on to where its route's service is, with the peer's token of the secrets where there
 * is one, and with the client's own otherwise. */
void lh_proxy_forward(struct lh_proxy *proxy, struct lh_http_call *call);

/* The first service that is not ready, or NULL. */
const struct lh_proxied *lh_proxy_find_unready(const struct lh_proxy *proxy);
const char *lh_proxied_state_name(enum lh_proxied_state state);

void lh_proxy_metrics(const struct lh_proxy *proxy, struct lh_buf *out);

#endif
