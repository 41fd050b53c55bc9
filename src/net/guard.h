/* The header guard: what a header block must be before the parser sees it, a request's or that of
 * an upstream's response. */
#ifndef LH_NET_GUARD_H
#define LH_NET_GUARD_H

#include "base/status.h"
#include "base/str.h"
#include <stdbool.h>
#include <stdint.h>

#define LH__FIELDS_MAX 100u /* header lines of one request; browsers send about 20 */

/* One header line, as offsets into the block: a block has at most 16 KiB. */
struct lh__field {
    uint16_t name;
    uint16_t name_len;
    uint16_t value; /* trimmed */
    uint16_t value_len;
};

/* A checked header block. The strings borrow from it. */
struct lh__head {
    const char *block;
    struct lh_str method; /* of a request */
    struct lh_str target;
    int status;              /* of a response; 0: a request */
    uint64_t content_length; /* 0 without the field */
    bool has_content_length;
    bool chunked;
    bool keep_alive; /* what the other side asked for, by version and Connection */
    bool expect_continue;
    uint8_t minor; /* HTTP/1.minor: 0 or 1 */
    uint8_t field_count;
    struct lh__field fields[LH__FIELDS_MAX];
};

/* Looks for the empty line that ends a header block, starting at *seen; keeps *seen so that a block
 * that arrives in pieces is read once. On LH_OK, *block_len is the block's length, or 0 when its
 * end has not come. A line that ends in a bare LF, and a first byte that starts no method, are
 * refused at once, so that a client which waits for the answer need not run into the deadline. */
LH_MUST_USE enum lh_status lh__guard_find_end(const char *bytes, size_t len, size_t *seen,
                                              size_t *block_len, struct lh_error *error);

/* The same for what follows the last chunk: fields and an empty line, or just that. */
LH_MUST_USE enum lh_status lh__guard_find_trailer_end(const char *bytes, size_t len, size_t *seen,
                                                      size_t *section_len, struct lh_error *error);

/* Checks one whole header block, with its empty line, and takes it apart (RFC 9112 sections 2.2,
 * 3, 5 and 6; RFC 9110 section 7.2). */
LH_MUST_USE enum lh_status lh__guard_check(struct lh_str block, struct lh__head *head,
                                           struct lh_error *error);

/* The same for a response, interim ones included. It must not have two framings either: behind a
 * response whose end two programs see at different places stands what an attacker wrote. */
LH_MUST_USE enum lh_status lh__guard_check_response(struct lh_str block, struct lh__head *head,
                                                    struct lh_error *error);

/* Checks one whole trailer section, with its empty line, of the message that `head` began (RFC 9112
 * section 7.1.2, RFC 9110 section 6.5). */
LH_MUST_USE enum lh_status
lh__guard_check_trailer(struct lh_str section, const struct lh__head *head, struct lh_error *error);

#endif
