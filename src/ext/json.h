/* A strict reader of JSON text (RFC 8259) that keeps nothing: for metadata, which is stored and
 * echoed as text and so must be valid to the last byte, for saying where a broken body breaks, and
 * for envelopes of files, whose every value must keep its place. Nothing is copied into a tree: a
 * value is the run of text that it stands in. */
#ifndef LH_EXT_JSON_H
#define LH_EXT_JSON_H

#include "base/limits.h"
#include "base/str.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A body holds metadata at its third level ({"items":[{"metadata":). */
#define LH_JSON_DEPTH_MAX (LH_METADATA_DEPTH_MAX + 3u)

struct lh_json_fault {
    size_t offset;
    const char *reason; /* constant text */
};

/* Whether `text` is one JSON value of well-formed UTF-8 with white space around it and nothing
 * else, nested at most `depth_max` <= LH_JSON_DEPTH_MAX deep. On false, `fault` says what is
 * wrong at which byte. With `minified` (room for text.len bytes), the text without its white space
 * is written there. */
bool lh_json_check(struct lh_str text, unsigned depth_max, char *minified, size_t *minified_len,
                   struct lh_json_fault *fault);

/* Reads the JSON string that `text` is, quotes and all, into `out`, which has room for text.len
 * bytes. False, with the fault, when it is not one string of well-formed UTF-8. */
bool lh_json_unescape(struct lh_str text, char *out, size_t *out_len, struct lh_json_fault *fault);

/* Steps through the members of an object or the elements of an array. */
struct lh_json_walk {
    const char *at;
    const char *end;
};

/* Starts on `value`, which lh_json_check has accepted; of anything but an object or an array there
 * is nothing to step through. */
struct lh_json_walk lh_json_walk_begin(struct lh_str value);

/* The next value without the white space around it, and in an object its name with the quotes.
 * False: there are no more. */
bool lh_json_step(struct lh_json_walk *walk, struct lh_str *name, struct lh_str *value);

#ifdef __cplusplus
}
#endif

#endif
