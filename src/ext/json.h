/* A strict reader of JSON text (RFC 8259) that keeps nothing: for metadata, which is stored and
 * echoed as text and so must be valid to the last byte, and for saying where a broken body breaks.
 * Private to this folder. */
#ifndef LH_EXT_JSON_H
#define LH_EXT_JSON_H

#include "base/limits.h"
#include "base/str.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A body holds metadata at its third level ({"items":[{"metadata":). */
#define LH__BODY_DEPTH_MAX (LH_METADATA_DEPTH_MAX + 3u)

struct lh__json_fault {
    size_t offset;
    const char *reason; /* constant text */
};

/* Whether `text` is one JSON value of well-formed UTF-8 with white space around it and nothing
 * else, nested at most `depth_max` <= LH__BODY_DEPTH_MAX deep. On false, `fault` says what is
 * wrong at which byte. With `minified` (room for text.len bytes), the text without its white space
 * is written there. */
bool lh__json_check(struct lh_str text, unsigned depth_max, char *minified, size_t *minified_len,
                    struct lh__json_fault *fault);

/* Reads the JSON string that `text` is, quotes and all, into `out`, which has room for text.len
 * bytes. False, with the fault, when it is not one string of well-formed UTF-8. */
bool lh__json_unescape(struct lh_str text, char *out, size_t *out_len,
                       struct lh__json_fault *fault);

#ifdef __cplusplus
}
#endif

#endif
