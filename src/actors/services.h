/* The shape of this process: which services run in it, where they listen, and which are elsewhere.
 *
 * A service runs here when something here reaches it: its own port, or the gateway. The gateway
 * sends its routes elsewhere when its URL names another process; a URL that is a bind of this
 * process, as in a file that was written for separate daemons, is no other process. A service that
 * is elsewhere has no port here by default, only one that was set. */
#ifndef LH_ACTORS_SERVICES_H
#define LH_ACTORS_SERVICES_H

#include "base/config.h"
#include "net/http.h"

struct lh_service_place {
    enum lh_http_service service;
    const char *name;     /* "vectord" */
    const char *bind_key; /* "vectord.bind" */
    const char *url_key;  /* "gateway.vectord_url"; the gateway's own is NULL */
    bool listens;         /* on a port of its own */
    bool is_here;         /* it runs in this process */
    struct lh_str url;    /* where the gateway sends its routes; empty: nowhere else */
};

#define LH_SERVICES 6u

struct lh_services {
    struct lh_service_place places[LH_SERVICES]; /* the gateway first */
};

/* LH_CONFIG when nothing would listen. The URLs borrow from `config`. */
LH_MUST_USE enum lh_status lh_services_read(const struct lh_config *config,
                                            struct lh_services *services, struct lh_error *error);

const struct lh_service_place *lh_services_find(const struct lh_services *services,
                                                enum lh_http_service service);

/* The services whose routes the gateway sends elsewhere, as bits. */
unsigned lh_services_elsewhere(const struct lh_services *services);

/* Whether `url` leads to a port of this process: to that of the gateway, or of `bind_key`. */
bool lh_services_is_own_url(const struct lh_config *config, const char *bind_key,
                            struct lh_str url);

#endif
