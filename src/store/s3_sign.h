/* Signatures of requests to S3, as AWS Signature Version 4 has them.
 *
 * S3's own rules where it differs from other services: the path is escaped once and not
 * normalised, so that "a//b" and "a/../b" are keys as they stand, and the hash of the body travels
 * in x-amz-content-sha256. Source: "Signature Calculations for the Authorization Header", Amazon
 * S3 API Reference. */
#ifndef LH_STORE_S3_SIGN_H
#define LH_STORE_S3_SIGN_H

#include "base/buf.h"
#include "base/status.h"
#include "base/str.h"
#include <stddef.h>
#include <stdint.h>

#define LH_S3_PAIRS_MAX   16u /* of one request's query, and of its headers */
#define LH_S3_DATE_BYTES  17u /* "20130524T000000Z" and its NUL */
#define LH_SHA256_HEX_LEN 64u

struct lh_s3_pair {
    struct lh_str name; /* of a header: in lower case */
    struct lh_str value;
};

struct lh_s3_credentials {
    struct lh_str access_key_id;
    struct lh_str secret_access_key;
    struct lh_str session_token; /* empty: none */
};

struct lh_s3_signing {
    struct lh_str method;
    struct lh_str path;             /* with its first slash, not escaped */
    const struct lh_s3_pair *query; /* not escaped, in any order */
    size_t query_count;
    const struct lh_s3_pair *headers; /* in any order; all of them are signed */
    size_t header_count;
    struct lh_str payload_hash; /* hexadecimal SHA-256, or "UNSIGNED-PAYLOAD" */
    const char *date;           /* as lh_s3_date writes it; also in x-amz-date */
    struct lh_str region;
    struct lh_str service; /* "s3" */
    const struct lh_s3_credentials *credentials;
};

/* Appends the value of the Authorization header. LH_OUT_OF_MEMORY. */
LH_MUST_USE enum lh_status lh_s3_sign(const struct lh_s3_signing *signing,
                                      struct lh_buf *authorization);

/* Appends `text` with everything but unreserved characters (RFC 3986) as %XX, and slashes as they
 * are where `keep_slashes`. */
void lh_s3_escape(struct lh_buf *out, struct lh_str text, bool keep_slashes);

/* Appends the query, escaped and sorted: what is signed, and what is sent. */
void lh_s3_query(struct lh_buf *out, const struct lh_s3_pair *query, size_t count);

void lh_s3_date(uint64_t wall_ms, char date[LH_S3_DATE_BYTES]);
void lh_sha256_hex(struct lh_str bytes, char hex[LH_SHA256_HEX_LEN + 1]);

#endif
