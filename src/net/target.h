/* A request target, split and decoded: path segments and query parameters. */
#ifndef LH_NET_TARGET_H
#define LH_NET_TARGET_H

#include "base/status.h"
#include "base/str.h"
#include <stdbool.h>
#include <stdint.h>

#define LH__SEGMENTS_MAX 16u /* of a path; deeper ones can only be the tail of "{key...}" */
#define LH__QUERY_MAX    16u /* parameters of one request */

struct lh__query_param {
    struct lh_str name;
    struct lh_str value;
};

/* The strings borrow from the scratch space that lh__target_parse was given. */
struct lh__target {
    struct lh_str segments[LH__SEGMENTS_MAX];
    struct lh_str path; /* all segments, decoded, without the first '/' */
    struct lh__query_param query[LH__QUERY_MAX];
    uint8_t segment_count; /* LH__SEGMENTS_MAX + 1: there are more */
    uint8_t query_count;
    bool is_asterisk; /* `OPTIONS *` */
};

/* Splits first, then decodes each part once, into `scratch` (raw.len bytes). Takes the origin,
 * absolute and asterisk forms of RFC 9112 section 3.2. A bad escape, %00 or a fragment is
 * LH_BAD_REQUEST. */
LH_MUST_USE enum lh_status lh__target_parse(struct lh_str raw, char *scratch,
                                            struct lh__target *target, struct lh_error *error);

#endif
