/* multipart/form-data with one part (RFC 7578, RFC 2046 section 5.1.1), taken apart as it arrives,
 * at bounded memory: a boundary that is cut by a piece's end, and one line of the part's header. */
#ifndef LH_NET_MULTIPART_H
#define LH_NET_MULTIPART_H

#include "base/status.h"
#include "base/str.h"

#define LH_MULTIPART_BOUNDARY_MAX 70u   /* RFC 2046 */
#define LH_MULTIPART_LINE_MAX     1024u /* of a part's header */
#define LH_MULTIPART_LINES_MAX    16u
#define LH_MULTIPART_NAME_MAX     255u /* of the file, as file systems have it */
#define LH_MULTIPART_TYPE_MAX     127u

enum lh_multipart_state {
    LH_MULTIPART_PREAMBLE,
    LH_MULTIPART_BOUNDARY_END, /* behind a boundary: CRLF, or -- */
    LH_MULTIPART_HEADER,
    LH_MULTIPART_BODY,
    LH_MULTIPART_OVER
};

struct lh_multipart {
    enum lh_multipart_state state;
    char boundary[LH_MULTIPART_BOUNDARY_MAX + 5]; /* CR LF -- and what the header says */
    size_t boundary_len;
    size_t matched; /* of the boundary, at the end of what has come */
    size_t assumed; /* of these, that are not the body's: the end of the line before it */
    char line[LH_MULTIPART_LINE_MAX];
    size_t line_len;
    unsigned lines;
    unsigned parts;
    /* of the part, once its header is over */
    char file_name[LH_MULTIPART_NAME_MAX + 1];
    char content_type[LH_MULTIPART_TYPE_MAX + 1];
};

/* Whether a Content-Type is multipart/form-data. */
bool lh_multipart_is(struct lh_str content_type);

/* LH_INVALID_ARGUMENT: it has no boundary that could be one. */
LH_MUST_USE enum lh_status lh_multipart_init(struct lh_multipart *multipart,
                                             struct lh_str content_type, struct lh_error *error);

/* Where the part's body goes. */
struct lh_multipart_sink {
    enum lh_status (*write)(struct lh_str bytes, void *arg, struct lh_error *error);
    void *arg;
};

/* Takes a piece. LH_BAD_REQUEST with the reason, or what the sink returned if that is not LH_OK. */
LH_MUST_USE enum lh_status lh_multipart_take(struct lh_multipart *multipart, struct lh_str piece,
                                             const struct lh_multipart_sink *sink,
                                             struct lh_error *error);

/* At the end of all pieces: LH_BAD_REQUEST when the last boundary has not come. */
LH_MUST_USE enum lh_status lh_multipart_end(const struct lh_multipart *multipart,
                                            struct lh_error *error);

#endif
