/* The catalog, for threads that may block: ingest and query workers.
 *
 * The same calls whether the catalog is an actor of this process or another process. A client
 * belongs to one thread. In this process a call is a message and takes microseconds; from another
 * one, the newest manifest of a name is believed for as long as the options say. What is wrong with
 * a call comes with the statuses of the catalog's routes: LH_DATASET_NOT_FOUND,
 * LH_VERSION_NOT_FOUND, LH_FINGERPRINT_CONFLICT, LH_SCHEMA_CONFLICT, LH_OBJECT_MISMATCH,
 * LH_DATASET_LOADING, LH_DATASET_FAILED, LH_INVALID_ARGUMENT, ...; and LH_BAD_GATEWAY when a
 * catalog elsewhere is not reached, LH_CLOSED when one here has stopped. */
#ifndef LH_ACTORS_CATALOG_CLIENT_H
#define LH_ACTORS_CATALOG_CLIENT_H

#include "actors/manifest.h"
#include "runtime/actor.h"

struct lh_catalog_client;

struct lh_catalog_client_options {
    struct lh_actor *catalogd; /* in this process; NULL: it is elsewhere */
    struct lh_str url;         /* elsewhere: http://host:port or https://host:port */
    const char *token;         /* what calls there carry; NULL: nothing */
    uint64_t believe_ms;       /* how old a newest manifest from there may be */
    /* Asked about once a second while a call there is under way; true ends it with LH_CLOSED.
     * NULL: calls are not cancelled. */
    bool (*is_cancelled)(void *arg);
    void *arg;
};

/* LH_OUT_OF_MEMORY. */
LH_MUST_USE enum lh_status lh_catalog_client_create(const struct lh_catalog_client_options *options,
                                                    struct lh_catalog_client **client,
                                                    struct lh_error *error);
/* After the catalog's thread has ended: its last reply may still be waking this one up. */
void lh_catalog_client_destroy(struct lh_catalog_client *client);

/* The manifest in force (`version` 0) or an older one. The caller destroys it. */
LH_MUST_USE enum lh_status lh_catalog_client_get(struct lh_catalog_client *client,
                                                 struct lh_str name, uint64_t version,
                                                 struct lh_manifest **manifest,
                                                 struct lh_error *error);

/* Registers what `asked` says of name, fingerprint, objects, schema_json and row_count; the objects
 * are stored already. `is_new` is false when this fingerprint was registered before. The caller
 * destroys the manifest that is in force now. */
LH_MUST_USE enum lh_status lh_catalog_client_register(struct lh_catalog_client *client,
                                                      const struct lh_manifest *asked,
                                                      enum lh_register_mode mode,
                                                      struct lh_manifest **manifest, bool *is_new,
                                                      struct lh_error *error);

/* With `purge`, also the objects that no other dataset names. */
LH_MUST_USE enum lh_status lh_catalog_client_delete(struct lh_catalog_client *client,
                                                    struct lh_str name, bool purge,
                                                    struct lh_error *error);

/* The datasets whose names begin with `prefix` and come after `cursor`, in byte order, up to
 * `limit`, as the route answers them: {"datasets": [{"name", "dataset_id", "state", ...}],
 * "next_cursor"?}. Appended to `answer`. */
LH_MUST_USE enum lh_status lh_catalog_client_list(struct lh_catalog_client *client,
                                                  struct lh_str prefix, struct lh_str cursor,
                                                  uint32_t limit, struct lh_buf *answer,
                                                  struct lh_error *error);

#endif
