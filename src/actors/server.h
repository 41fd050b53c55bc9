/* The whole server: every actor, made in one place and stopped in one order. */
#ifndef LH_ACTORS_SERVER_H
#define LH_ACTORS_SERVER_H

#include "actors/catalog_service.h"
#include "actors/gateway.h"
#include "actors/services.h"
#include "base/config.h"

struct lh_server {
    struct lh_log log;
    const struct lh_config *config; /* the caller's: what it was started with */
    struct lh_config *reloaded;     /* what it has taken over since; NULL: nothing */
    enum lh_status (*reread)(void *arg, struct lh_config **config, struct lh_error *error);
    void *reread_arg;
    struct lh_access access; /* with the secrets */
    struct lh_http_server *http;
    struct lh_services services; /* borrows from the configuration */
    struct lh_gateway gateway;
    struct lh_vectord vectord;
    struct lh_persister persister; /* when `is_kept` */
    struct lh_recovery recovery;
    struct lh_queryd queryd;           /* when `has_queryd` */
    struct lh_peer peer;               /* when `has_peer` */
    struct lh_storaged storaged;       /* when `has_storaged` */
    struct lh_storaged_s3 storaged_s3; /* when `has_s3` */
    bool is_kept;
    bool has_peer;
    bool has_queryd;
    struct lh_catalog catalog; /* when `has_catalog` */
    bool has_catalog;
    struct lh_ingestd ingestd; /* when `has_ingestd` */
    bool has_ingestd;
    bool has_storaged;
    bool has_s3;
    bool actors_made;
    struct lh_decoder_actor *decoders;
    struct lh_worker *workers;
    uint32_t decoder_count;
    uint32_t worker_count;
    uint32_t decoders_made;
};

/* Binds every port and starts every thread. On failure nothing is left running. `config` outlives
 * the server. */
LH_MUST_USE enum lh_status lh_server_start(struct lh_server *server, const struct lh_config *config,
                                           struct lh_error *error);

/* Without a start: what that would find wrong with what the configuration names. It makes nothing,
 * so folders are not looked at, nor ports. */
LH_MUST_USE enum lh_status lh_server_check(const struct lh_config *config, struct lh_error *error);

/* How the configuration is read again at SIGHUP. Before the loop runs; without it the files that
 * the first one names are read again. */
void lh_server_reread_by(struct lh_server *server,
                         enum lh_status (*reread)(void *arg, struct lh_config **config,
                                                  struct lh_error *error),
                         void *arg);

/* Runs the loop on the calling thread until SIGTERM or SIGINT. False: a second one came before the
 * requests in flight were done, so that the threads behind the loop cannot be stopped in order. */
LH_MUST_USE bool lh_server_run(struct lh_server *server);

/* Stops and joins the threads, and frees everything. */
void lh_server_stop(struct lh_server *server);

/* ---- for the services ---- */

/* Where objects are for the service whose `url_key`, as "catalogd.storaged_url", says so: in this
 * process when it is empty or names a bind of this process, else at that URL. Nowhere, so that both
 * are empty, when it is empty and this process keeps none. LH_CONFIG: it names this process, which
 * keeps none. Once storaged is made.
 *
 * Threads that hold a client of these options are joined before storaged stops, and the clients
 * destroyed after it. */
LH_MUST_USE enum lh_status lh_server_objects(const struct lh_server *server,
                                             const struct lh_config *config, const char *url_key,
                                             struct lh_object_client_options *options,
                                             struct lh_error *error);

/* ---- server_check.c ---- */

/* Which of its stores storaged has: a bucket, or a folder if there is one. LH_CONFIG: the folder
 * that is asked for has no name. */
LH_MUST_USE enum lh_status lh_server_backend(const struct lh_config *config, bool *is_on_s3,
                                             struct lh_error *error);

/* ---- reload.c ---- */

/* Takes over what can be while it runs; `context` is the server's gateway. */
void lh_server_on_hangup(void *context);
void lh_server_set_log_level(struct lh_server *server, const struct lh_config *config);

/* What `[server] io` asks for. */
enum lh_disk_io lh_server_io(const struct lh_config *config);

/* Cores that this process may run on. */
uint32_t lh_server_cores(void);

#endif
