/* storaged on S3: the object store's actor where objects lie in a bucket.
 *
 * Takes the transfers of messages.h. Bodies go through in pieces: what is read waits for its reader
 * in at most LH_S3_DOWNLOAD_BYTES_MAX an object, what is written is kept until the store has
 * answered for it, so that a request can be repeated, in at most LH_S3_UPLOAD_BYTES_MAX in all.
 * Objects above LH_S3_SINGLE_PUT_BYTES, and those of unknown length above one part, go up in
 * parts; one that fails or is aborted leaves none behind. Conditions are the store's to check: one
 * that does not know If-Match or If-None-Match for a write does it without. */
#ifndef LH_ACTORS_STORAGED_S3_H
#define LH_ACTORS_STORAGED_S3_H

#include "actors/messages.h"
#include "actors/secrets.h"
#include "base/log.h"
#include "base/metrics.h"
#include "runtime/actor.h"
#include "store/s3.h"

struct lh_storaged_s3_options {
    struct lh_s3 *s3; /* taken on success */
    const struct lh_log *log;
    /* Smaller in tests; 0: the limits of base/limits.h. */
    uint64_t single_put_bytes;
    uint64_t part_bytes;
    uint64_t upload_bytes_max;
};

struct lh_storaged_s3_metrics {
    struct lh_counter requests; /* tries */
    struct lh_counter retries;
    struct lh_counter failures;     /* requests given up, but for what the asker is told, as 404 */
    struct lh_counter upload_bytes; /* kept now, until the store has them */
};

struct lh_storaged_s3 {
    struct lh_actor actor; /* LH_MSG_TRANSFER */
    struct lh_storaged_s3_options options;
    void *multi;                    /* libcurl's CURLM */
    struct lh__s3_call *calls;      /* under way, or waiting for their next try */
    struct lh__s3_work *works;      /* one a transfer that is not over, or is still cleaned up */
    struct lh__s3_work *room_first; /* uploads that wait for room, oldest first */
    struct lh__s3_work *room_last;
    uint64_t upload_bytes; /* promised to uploads */
    uint64_t random;
    struct lh__s3_call *probe; /* is the bucket there? asked once, at the start */
    struct lh_storaged_s3_metrics metrics;
};

LH_MUST_USE enum lh_status lh_storaged_s3_init(struct lh_storaged_s3 *storaged,
                                               const struct lh_storaged_s3_options *options,
                                               struct lh_error *error);
/* The same as the configuration has it: [s3], with the key and its secret from the [s3] table of
 * the secrets file (`secrets` may be NULL), else from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
 * AWS_SESSION_TOKEN, else from [s3] itself; always both from one place. LH_CONFIG. Main thread. */
LH_MUST_USE enum lh_status lh_storaged_s3_open(struct lh_storaged_s3 *storaged,
                                               const struct lh_config *config,
                                               const struct lh_secrets *secrets,
                                               const struct lh_log *log, struct lh_error *error);
/* Whether it would, but for memory: nothing is kept. */
LH_MUST_USE enum lh_status lh_storaged_s3_check(const struct lh_config *config,
                                                const struct lh_secrets *secrets,
                                                struct lh_error *error);
/* When every thread that may send to it has ended, and its own. */
void lh_storaged_s3_deinit(struct lh_storaged_s3 *storaged);

#endif
