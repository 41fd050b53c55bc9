/* Who may do what: looks at each request's header before its body is let in. Loop thread. */
#ifndef LH_ACTORS_ACCESS_H
#define LH_ACTORS_ACCESS_H

#include "actors/callers.h"
#include "base/config.h"
#include "base/log.h"
#include "base/metrics.h"

/* Who may read /metrics, /readyz and /openapi.json without a token. */
enum lh_open_status { LH_OPEN_TO_ANYONE, LH_OPEN_TO_LOOPBACK, LH_OPEN_TO_NOBODY };

struct lh_access {
    struct lh_secrets *secrets; /* NULL: none are configured; without tokens all may do all */
    struct lh_callers callers;
    enum lh_open_status open_status;
    uint64_t requests_per_second;   /* of a caller; 0: no limit */
    uint64_t bytes_per_second;      /* of its requests' bodies */
    struct lh_counter unauthorized; /* answered 401 */
    struct lh_counter forbidden;    /* 403 */
    struct lh_counter limited;      /* 429 */
};

/* Reads the secrets that `config` names. LH_CONFIG: they cannot be read, or there is no token in
 * them and a bind can be reached from other hosts. */
LH_MUST_USE enum lh_status lh_access_init(struct lh_access *access, const struct lh_config *config,
                                          struct lh_error *error);
void lh_access_deinit(struct lh_access *access);

/* The same again, when the files or the limits have changed: all is as it was if it fails. The old
 * secrets go to `replaced`, for the caller to destroy. */
LH_MUST_USE enum lh_status lh_access_reload(struct lh_access *access,
                                            const struct lh_config *config,
                                            struct lh_secrets **replaced, struct lh_error *error);

/* Whether the call may go on; if not, it has been answered. */
bool lh_access_check(struct lh_access *access, struct lh_http_call *call);

/* Whose the call is. Never NULL. */
struct lh_caller *lh_access_caller(struct lh_access *access, struct lh_http_call *call);

/* The token that the call came with; NULL: tokens are not asked for. For what the route's row does
 * not say; `lh_access_check` has let it in, but a reload may have come since: then it is answered,
 * and false. */
bool lh_access_token(struct lh_access *access, struct lh_http_call *call,
                     const struct lh_token **token);

/* Bytes of a body whose length was not known beforehand. */
void lh_access_count_bytes(struct lh_access *access, struct lh_http_call *call, uint64_t bytes);

void lh_access_metrics(const struct lh_access *access, struct lh_buf *out);

#endif
