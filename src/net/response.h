/* An upstream's response, read byte by byte: the header guard, then llhttp for the body, then the
 * guard again for a trailer section, which is dropped. Interim responses are swallowed. No socket
 * is known here. */
#ifndef LH_NET_RESPONSE_H
#define LH_NET_RESPONSE_H

#include "base/buf.h"
#include "net/guard.h"
#include <llhttp.h>

enum lh__response_state {
    LH__RESPONSE_HEAD,
    LH__RESPONSE_BODY,
    LH__RESPONSE_TRAILER,
    LH__RESPONSE_DONE,
    LH__RESPONSE_FAILED
};

struct lh__response {
    enum lh__response_state state;
    bool is_head;      /* of a HEAD request: no body, whatever the header says */
    bool has_begun;    /* a byte of it has come */
    bool until_close;  /* its body ends where the connection does */
    unsigned interims; /* interim responses before it */
    struct lh__head head;
    llhttp_t parser;
    struct lh_buf block; /* the header; later the trailer section */
    size_t seen;
    const char *body_mark;   /* in this read: behind the last body byte */
    uint64_t chunk_overhead; /* bytes since the last body byte that were none */
    bool is_chunk_long;
    /* The owner's: called from lh__response_read, with `arg`. */
    void (*on_interim)(int status, void *arg);
    void (*on_head)(const struct lh__head *head, void *arg);
    void (*on_body)(struct lh_str piece, void *arg);
    void *arg;
};

/* `response` is zeroed but for the owner's part. */
void lh__response_begin(struct lh__response *response, bool is_head);
void lh__response_deinit(struct lh__response *response);

/* Takes of `bytes` what belongs to the response; *used is less than `len` only behind its end. An
 * error is LH_BAD_REQUEST or LH_OUT_OF_MEMORY: the connection is done for. */
LH_MUST_USE enum lh_status lh__response_read(struct lh__response *response, const char *bytes,
                                             size_t len, size_t *used, struct lh_error *error);

/* The connection has ended in order: LH_OK when the response ended with it. */
LH_MUST_USE enum lh_status lh__response_at_eof(struct lh__response *response,
                                               struct lh_error *error);

/* No body follows this header, whatever lengths it names (RFC 9112 section 6.3). */
bool lh__response_is_bodiless(const struct lh__response *response);

#endif
