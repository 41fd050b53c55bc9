/* The catalog as one of the server's services: its two threads, made and stopped together. */
#ifndef LH_ACTORS_CATALOG_SERVICE_H
#define LH_ACTORS_CATALOG_SERVICE_H

#include "actors/catalogd.h"
#include "actors/work_folder.h"
#include "base/config.h"

struct lh_catalog_options {
    const struct lh_config *config;
    struct lh_object_client_options objects; /* where the store is; empty: there is none */
    const struct lh_log *log;
};

struct lh_catalog {
    struct lh_catalogd catalogd;
    struct lh_catalog_store store;
    struct lh_work_folder folder;
    bool is_made;           /* else there is none, for `reason`: its routes say so */
    struct lh_error reason; /* LH_NOT_IMPLEMENTED */
};

/* Without DuckDB, or without an object store, the service is there and answers with the reason.
 * LH_CONFIG, LH_OUT_OF_MEMORY. */
LH_MUST_USE enum lh_status lh_catalog_init(struct lh_catalog *catalog,
                                           const struct lh_catalog_options *options,
                                           struct lh_error *error);
LH_MUST_USE enum lh_status lh_catalog_start(struct lh_catalog *catalog, struct lh_error *error);
/* Before the object store's threads end: its own end. */
void lh_catalog_stop(struct lh_catalog *catalog);
/* After those, and after whoever has called the catalog. */
void lh_catalog_deinit(struct lh_catalog *catalog);

/* ---- loop thread ---- */

/* For /readyz: what of it is read. It is no condition of being ready. */
void lh_catalog_append_state(const struct lh_catalog *catalog, struct lh_buf *out);
void lh_catalog_metrics(const struct lh_catalog *catalog, struct lh_buf *out);

#endif
