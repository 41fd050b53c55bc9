/* JSON documents read as a tree (simdjson's DOM): for the command-line client, and for what DuckDB
 * says of a statement. The server's bodies are read on demand instead (decode.h). At most 1,024
 * levels deep. */
#ifndef LH_EXT_JSON_READ_H
#define LH_EXT_JSON_READ_H

#include "base/buf.h"
#include "base/status.h"
#include "base/str.h"

#ifdef __cplusplus
extern "C" {
#endif

struct lh_json_doc; /* owns the memory of all its values */

/* A value of a document; passed by value. */
struct lh_json {
    const void *opaque[2];
};

struct lh_json_iter {
    const void *at[2];
    const void *end[2];
};

/* Reads `text`, which is not needed afterwards. LH_INVALID_JSON with simdjson's reason. */
LH_MUST_USE enum lh_status lh_json_doc_create(struct lh_str text, struct lh_json_doc **doc,
                                              struct lh_json *root, struct lh_error *error);
void lh_json_doc_destroy(struct lh_json_doc *doc);

/* Each is false, with `out` as it was, when the value is of another type or does not fit. Strings
 * live as long as the document. */
bool lh_json_get(struct lh_json object, const char *name, struct lh_json *out);
bool lh_json_get_str(struct lh_json object, const char *name, struct lh_str *out);
bool lh_json_get_u64(struct lh_json object, const char *name, uint64_t *out);
bool lh_json_get_f64(struct lh_json object, const char *name, double *out);
bool lh_json_as_f64(struct lh_json value, double *out);
bool lh_json_as_str(struct lh_json value, struct lh_str *out);
bool lh_json_as_bool(struct lh_json value, bool *out);
bool lh_json_as_i64(struct lh_json value, int64_t *out);
bool lh_json_is_null(struct lh_json value);

/* Starts on the elements of an array; of anything else, there are none. */
struct lh_json_iter lh_json_elements(struct lh_json array);
bool lh_json_next(struct lh_json_iter *iter, struct lh_json *out);

/* Starts on the members of an object; of anything else, there are none. Only for lh_json_member. */
struct lh_json_iter lh_json_members(struct lh_json object);
bool lh_json_member(struct lh_json_iter *iter, struct lh_str *name, struct lh_json *value);

bool lh_json_is_object(struct lh_json value);
bool lh_json_is_array(struct lh_json value);

/* How many elements an array has; 0 for anything else. */
uint32_t lh_json_count(struct lh_json array);

/* Appends the value as minified JSON text. */
void lh_json_append(struct lh_buf *buf, struct lh_json value);

#ifdef __cplusplus
}
#endif

#endif
