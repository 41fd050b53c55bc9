/* The catalog: which datasets there are, at which versions, of which objects. */
#ifndef LH_ACTORS_CATALOGD_H
#define LH_ACTORS_CATALOGD_H

#include "actors/catalog_registry.h"
#include "actors/catalog_store.h"

struct lh_catalogd_metrics {
    struct lh_counter datasets;
    struct lh_counter unread; /* of them: their newest manifest is still to be read */
    struct lh_counter failed;
    struct lh_counter is_listed; /* all their names are known */
    struct lh_counter waiting;   /* registrations and deletions, for the one under way */
    struct lh_counter registered;
    struct lh_counter unchanged; /* registrations of what was there */
    struct lh_counter refused;   /* registrations and deletions */
    struct lh_counter deleted;
};

/* An object that a purge may delete, unless another dataset names it. */
struct lh_purge_key {
    struct lh_str key; /* in the change's `keys` */
    bool is_named;
};

/* The registration or deletion under way: one at a time. */
struct lh_catalog_change {
    struct lh_catalog_call *call; /* NULL: none is */
    /* a registration */
    struct lh_manifest *asked;
    enum lh_register_mode mode;
    uint32_t conflicts; /* how often another catalog was faster */
    /* a purge */
    struct lh_buf keys;
    struct lh_purge_key *purge; /* in byte order; NULL: its own manifests are still to be read */
    uint32_t purge_count;
    char next_other[LH_NAME_BYTES_MAX + 1]; /* whose older versions are looked at next */
};

struct lh_catalogd {
    struct lh_actor actor;
    struct lh_actor *store;
    const struct lh_log *log;
    struct lh_registry registry;
    struct lh_msg_queue changes; /* that wait for the one under way */
    struct lh_catalog_change change;
    /* What is done at start, and again after failures: one job at a time. */
    bool is_listed;
    bool is_background_out;
    uint32_t unread;   /* datasets whose newest manifest is to be read */
    uint32_t deleting; /* whose deletion is not known to be over */
    uint64_t backoff_ms;
    uint64_t retry_ns;
    char next_name[LH_NAME_BYTES_MAX + 1]; /* where reading goes on */
    struct lh_error trouble;               /* of the last job in the background */
    struct lh_catalogd_metrics metrics;
};

void lh_catalogd_init(struct lh_catalogd *catalogd, struct lh_actor *store,
                      const struct lh_log *log);
/* After the threads of both. */
void lh_catalogd_deinit(struct lh_catalogd *catalogd);

/* ---- between the files of catalogd ---- */

void lh__catalogd_answer(struct lh_catalogd *catalogd, struct lh_catalog_call *call);
void lh__catalogd_answer_error(struct lh_catalogd *catalogd, struct lh_catalog_call *call,
                               const struct lh_error *error);
void lh__catalogd_answer_manifest(struct lh_catalogd *catalogd, struct lh_catalog_call *call,
                                  int http_status, const struct lh_manifest *manifest);
void lh__catalogd_send(struct lh_catalogd *catalogd, struct lh_catalog_job *job);
/* Whether a caller that is limited to prefixes may have this key, or the dataset of this name. */
bool lh__catalogd_allows_key(const struct lh_catalog_call *call, struct lh_str key);
bool lh__catalogd_allows_name(const struct lh_catalog_call *call, struct lh_str name);
/* Nothing can be said before all names are known: LH_DATASET_LOADING. */
LH_MUST_USE enum lh_status lh__catalogd_check_listed(const struct lh_catalogd *catalogd,
                                                     struct lh_error *error);

/* catalogd_change.c: registrations and deletions. Takes the call. */
void lh__catalogd_change(struct lh_catalogd *catalogd, struct lh_catalog_call *call);
void lh__catalogd_change_back(struct lh_catalogd *catalogd, struct lh_catalog_job *job);

/* catalogd_read.c: the registry from the store. */
void lh__catalogd_read(struct lh_catalogd *catalogd);
void lh__catalogd_read_back(struct lh_catalogd *catalogd, struct lh_catalog_job *job);
/* Takes over which versions a dataset has, and what a manifest was. */
LH_MUST_USE enum lh_status lh__catalogd_take_scan(struct lh_catalogd *catalogd,
                                                  const struct lh_catalog_job *job,
                                                  struct lh_error *error);
void lh__catalogd_take_read(struct lh_catalogd *catalogd, struct lh_catalog_job *job);
void lh__catalogd_count(struct lh_catalogd *catalogd);

#endif
