/* What is said to an S3 store and what its answers mean: addresses, signed requests, failures.
 *
 * Knows nothing of sockets: the actor carries what is made here. All of it may be used by any
 * thread; a store does not change once it is made. */
#ifndef LH_STORE_S3_H
#define LH_STORE_S3_H

#include "base/buf.h"
#include "base/status.h"
#include "base/str.h"
#include "store/s3_sign.h"
#include "store/s3_xml.h"
#include <stdbool.h>
#include <stdint.h>

struct lh_s3_options {
    struct lh_str endpoint; /* http://host:port or https://host, a path behind it is kept; empty:
                               Amazon's of the region */
    struct lh_str region;
    struct lh_str bucket;
    bool use_path_style;
    struct lh_s3_credentials credentials;
};

struct lh_s3; /* a bucket of a store, and who asks */

/* Copies the options. LH_CONFIG names the key that is wrong. */
LH_MUST_USE enum lh_status lh_s3_create(const struct lh_s3_options *options, struct lh_s3 **s3,
                                        struct lh_error *error);
void lh_s3_destroy(struct lh_s3 *s3);

/* "http://127.0.0.1:9000", for logs; and the others, as they are used. */
struct lh_str lh_s3_endpoint(const struct lh_s3 *s3);
struct lh_str lh_s3_region(const struct lh_s3 *s3);
struct lh_str lh_s3_bucket(const struct lh_s3 *s3);

/* Whether S3 can have an object of this key: LH_INVALID_ARGUMENT, LH_LIMIT_EXCEEDED. */
LH_MUST_USE enum lh_status lh_s3_check_key(struct lh_str key, struct lh_error *error);

struct lh_s3_request {
    const char *method;
    struct lh_str key; /* empty: the bucket itself */
    struct lh_s3_pair query[LH_S3_PAIRS_MAX];
    size_t query_count;
    struct lh_s3_pair headers[LH_S3_PAIRS_MAX - 4]; /* beside those of the signature */
    size_t header_count;
    struct lh_str body;
};

/* The value must live as long as the request. A header with an empty value is left out. */
void lh_s3_add_query(struct lh_s3_request *request, const char *name, struct lh_str value);
void lh_s3_add_header(struct lh_s3_request *request, const char *name, struct lh_str value);

/* A request as it goes out. */
struct lh_s3_wire {
    struct lh_buf url;     /* with its NUL */
    struct lh_buf headers; /* "Name: value" lines, each with its NUL */
    char date[LH_S3_DATE_BYTES];
};

/* Signs the request with the time `wall_ms`; `wire` is empty or of an earlier try. Over https the
 * bytes of a PUT are not hashed: TLS keeps them whole. LH_INVALID_ARGUMENT: a header's value has
 * control characters; LH_OUT_OF_MEMORY. */
LH_MUST_USE enum lh_status lh_s3_prepare(const struct lh_s3 *s3,
                                         const struct lh_s3_request *request, uint64_t wall_ms,
                                         struct lh_s3_wire *wire, struct lh_error *error);
void lh_s3_wire_deinit(struct lh_s3_wire *wire);

/* An answer that is not the one hoped for. */
struct lh_s3_failure {
    long http;
    struct lh_str body;        /* XML, or whatever else answers there; may be empty */
    const char *bucket_region; /* x-amz-bucket-region, or "" */
    const char *server_date;   /* Date, or "" */
    const char *signed_date;   /* of the request */
    bool may_repeat;           /* answered: it may go better a little later */
    char code[64];             /* answered: S3's name for it, such as "NoSuchKey", or "" */
};

/* What the client is to be told. Never returns LH_OK. */
LH_MUST_USE enum lh_status lh_s3_explain(const struct lh_s3 *s3, struct lh_s3_failure *failure,
                                         struct lh_error *error);

#endif
