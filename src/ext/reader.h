/* One JSON document being read: its place in the request for errors, and the steps that every body
 * shares. Private to this folder.
 *
 * simdjson runs on demand: it checks only what is looked at, so each member of each object is
 * looked at. Strings and numbers are read from their tokens by our own code: simdjson 3.0.1 does
 * not notice when its string buffer cannot be allocated. */
#ifndef LH_EXT_READER_H
#define LH_EXT_READER_H

#define SIMDJSON_EXCEPTIONS 0
#include "base/buf.h"
#include "base/status.h"
#include "ext/batch.h"
#include <simdjson.h>

struct lh_decoder {
    simdjson::ondemand::parser parser;
    float *row; /* LH_DIMENSION_MAX floats: a vector until its dimension is known */
};

namespace lh__reader
{

using simdjson::error_code;
using simdjson::ondemand::document;
using simdjson::ondemand::object;
using simdjson::ondemand::value;

/* A document and where in the request its reader is: "line 12: ", "items[3].". */
struct context {
    struct lh_decoder *decoder;
    struct lh_error *error;
    struct lh_str text;
    uint64_t line = 0; /* 0: the body is one document */
    const char *list = nullptr;
    uint32_t index = 0; /* in `list` */
};

/* Fills the error with the place of `field` ("" where the list's element itself is meant) and
 * returns `status`. */
enum lh_status refuse(const context &c, const char *field, enum lh_status status,
                      const char *format, ...) __attribute__((format(printf, 4, 5)));

/* simdjson could not go on: no memory, or the text is broken, at the byte that is found here. */
enum lh_status refuse_broken(const context &c, error_code code);

/* A value of the wrong type: "must be a string, found null". */
enum lh_status refuse_type(const context &c, const char *field, const char *wanted, value v);

/* Text as it can stand in an error: cut, without control characters. */
struct shown {
    char text[48];
    explicit shown(struct lh_str s) noexcept;
};

/* The text of a value that is no array or object, or the bracket of one that is. */
struct lh_str token(value v);

/* Starts on c.text, behind which SIMDJSON_PADDING bytes can be read. */
enum lh_status open(const context &c, document &doc, object &root);

/* Nothing may follow the document. */
enum lh_status close(const context &c, document &doc);

/* The place of a member's name in `names`, which is not yet in `seen`. */
enum lh_status find_name(const context &c, struct lh_str name, const char *const *names,
                         unsigned count, unsigned &seen, unsigned &found);

struct lh_str key_of(simdjson::ondemand::raw_json_string key);

/* Calls `handle(i, v)` for the member called names[i]. Another name, or the same twice, is an
 * error. `seen` has a bit for each that was there. */
template <unsigned count, class handler>
enum lh_status each_member(const context &c, object &o, const char *const (&names)[count],
                           unsigned &seen, handler handle)
{
    seen = 0;
    for (auto result : o) {
        simdjson::ondemand::field field;
        unsigned found = 0;
        error_code code = std::move(result).get(field);
        if (code != simdjson::SUCCESS) {
            return refuse_broken(c, code);
        }
        enum lh_status status = find_name(c, key_of(field.key()), names, count, seen, found);
        if (status == LH_OK) {
            status = handle(found, field.value());
        }
        if (status != LH_OK) {
            return status;
        }
    }
    return LH_OK;
}

/* Calls `handle(v)` for each element of the array `v`, with c.list and c.index set to it. */
template <class handler>
enum lh_status each_element(context &c, const char *list, value v, handler handle)
{
    simdjson::ondemand::array array;
    if (token(v).ptr[0] != '[') {
        return refuse_type(c, list, "an array", v);
    }
    error_code code = v.get_array().get(array);
    if (code != simdjson::SUCCESS) {
        return refuse_broken(c, code);
    }
    c.list = list;
    c.index = 0;
    for (auto result : array) {
        value element;
        code = std::move(result).get(element);
        if (code != simdjson::SUCCESS) {
            return refuse_broken(c, code);
        }
        enum lh_status status = handle(element);
        if (status != LH_OK) {
            return status;
        }
        c.index++;
    }
    c.list = nullptr;
    return LH_OK;
}

/* An integer within `min` to `max`. */
enum lh_status read_integer(const context &c, const char *field, value v, uint32_t min,
                            uint32_t max, uint32_t &number);

enum lh_status read_bool(const context &c, const char *field, value v, bool &truth);

/* A string of at most `max` bytes, into `out`, which has room for them. */
enum lh_status read_string(const context &c, const char *field, value v, size_t max, char *out,
                           size_t &len);

/* An id, in the batch's memory. */
enum lh_status read_id(const context &c, const char *field, value v, struct lh_batch *batch,
                       struct lh_str &id);

/* A vector, array or base64, into c.decoder->row; every number finite. `end`: behind its text. */
enum lh_status read_vector(const context &c, const char *field, value v, uint32_t &dimension,
                           const char *&end);

/* Metadata, minified, in the batch's memory. */
enum lh_status read_metadata(const context &c, const char *field, value v, struct lh_batch *batch,
                             struct lh_str &metadata);

/* Makes the bytes behind `body` readable, as simdjson and the number reader need. */
enum lh_status pad(struct lh_buf *body, struct lh_error *error);

/* Between two bodies: memory that an unusually large one needed does not stay. */
void shrink(struct lh_decoder *decoder);

} // namespace lh__reader

#endif
