/* Every status the server can answer or return, in one table: name, the code a client reads,
 * its HTTP status and its default text. */
#ifndef LH_BASE_STATUS_H
#define LH_BASE_STATUS_H

#include "base/str.h"
#include <stdarg.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LH_STATUS_MAP(XX)                                                                         \
    XX(OK, ok, 200, "ok")                                                                         \
    XX(BAD_REQUEST, bad_request, 400, "the request is malformed")                                 \
    XX(INVALID_JSON, invalid_json, 400, "the body is not valid JSON")                             \
    XX(INVALID_ARGUMENT, invalid_argument, 400, "a field has a wrong type or value")              \
    XX(LIMIT_EXCEEDED, limit_exceeded, 400, "a field is beyond its limit")                        \
    XX(DIMENSION_MISMATCH, dimension_mismatch, 400, "the vector has another dimension")           \
    XX(INVALID_CURSOR, invalid_cursor, 400, "the cursor was not made by this index")              \
    XX(INVALID_SQL, invalid_sql, 400, "the statement is not valid")                               \
    XX(INVALID_DATA, invalid_data, 400, "the data is not what its format says")                   \
    XX(SQL_NOT_ALLOWED, sql_not_allowed, 400, "the statement asks for what is not allowed")       \
    XX(UNAUTHORIZED, unauthorized, 401, "a bearer token is needed")                               \
    XX(FORBIDDEN, forbidden, 403, "the token does not allow this")                                \
    XX(NOT_FOUND, not_found, 404, "no such route")                                                \
    XX(INDEX_NOT_FOUND, index_not_found, 404, "index not found")                                  \
    XX(ITEM_NOT_FOUND, item_not_found, 404, "item not found")                                     \
    XX(KEY_NOT_FOUND, key_not_found, 404, "no object has this key")                               \
    XX(DATASET_NOT_FOUND, dataset_not_found, 404, "dataset not found")                            \
    XX(VERSION_NOT_FOUND, version_not_found, 404, "the dataset has no such version")              \
    XX(METHOD_NOT_ALLOWED, method_not_allowed, 405, "the route has no such method")               \
    XX(NOT_ACCEPTABLE, not_acceptable, 406, "none of the media types that are accepted")          \
    XX(REQUEST_TIMEOUT, request_timeout, 408, "the request did not arrive in time")               \
    XX(INDEX_ALREADY_EXISTS, index_already_exists, 409, "an index of this name exists")           \
    XX(FINGERPRINT_CONFLICT, fingerprint_conflict, 409, "the dataset has another fingerprint")    \
    XX(SCHEMA_CONFLICT, schema_conflict, 409, "the dataset has another schema")                   \
    XX(OBJECT_MISMATCH, object_mismatch, 409, "the object store has another object, or none")     \
    XX(CANCELLED, cancelled, 409, "the query was cancelled")                                      \
    XX(QUERY_NOT_FOUND, query_not_found, 404, "no query of this id runs")                         \
    XX(INGEST_NOT_FOUND, ingest_not_found, 404, "no ingest of this id is known")                  \
    XX(LENGTH_REQUIRED, length_required, 411, "a Content-Length or chunked body is needed")       \
    XX(PRECONDITION_FAILED, precondition_failed, 412, "the object is not the one asked for")      \
    XX(BODY_TOO_LARGE, body_too_large, 413, "the body is larger than the limit")                  \
    XX(LINE_TOO_LONG, line_too_long, 413, "an NDJSON line is longer than the limit")              \
    XX(URI_TOO_LONG, uri_too_long, 414, "the request target is too long")                         \
    XX(UNSUPPORTED_MEDIA_TYPE, unsupported_media_type, 415, "the Content-Type is not supported")  \
    XX(RANGE_NOT_SATISFIABLE, range_not_satisfiable, 416, "the range is outside the object")      \
    XX(EXPECTATION_FAILED, expectation_failed, 417, "only 100-continue can be expected")          \
    XX(TOO_MANY_REQUESTS, too_many_requests, 429, "too many requests")                            \
    XX(HEADERS_TOO_LARGE, headers_too_large, 431, "the request header is too large")              \
    XX(INTERNAL, internal, 500, "internal error")                                                 \
    XX(NOT_IMPLEMENTED, not_implemented, 501, "the method or transfer coding is not implemented") \
    XX(BAD_GATEWAY, bad_gateway, 502, "the service behind the gateway failed")                    \
    XX(OVERLOADED, overloaded, 503, "the server is at its limit, try again")                      \
    XX(DEADLINE, deadline_exceeded, 503, "the request waited longer than its deadline")           \
    XX(STOPPING, stopping, 503, "the server is stopping")                                         \
    XX(INDEX_LOADING, index_loading, 503, "the index is still being loaded, try again")           \
    XX(INDEX_FAILED, index_failed, 503, "the index could not be loaded")                          \
    XX(DATASET_LOADING, dataset_loading, 503, "the catalog is still being read, try again")       \
    XX(DATASET_FAILED, dataset_failed, 503, "the dataset's manifest cannot be read")              \
    XX(DISK_FAILED, disk_failed, 503, "the disk failed, nothing was changed")                     \
    XX(GATEWAY_TIMEOUT, gateway_timeout, 504, "the service behind the gateway did not answer")    \
    XX(VERSION_NOT_SUPPORTED, version_not_supported, 505, "only HTTP/1.0 and HTTP/1.1")           \
    XX(OUT_OF_MEMORY, out_of_memory, 507, "not enough memory")                                    \
    XX(LOOP_DETECTED, loop_detected, 508, "the request goes round between gateways")              \
    XX(NO_SPACE, no_space, 507, "the disk is full, nothing was changed")                          \
    /* Not answered over HTTP: what functions tell one another. */                                \
    XX(CLOSED, closed, 503, "the mailbox is closed")                                              \
    XX(IO, io, 500, "a system call failed")                                                       \
    XX(CONFIG, config, 500, "the configuration is wrong")                                         \
    XX(CORRUPT, corrupt, 500, "an invariant does not hold")

enum lh_status {
#define XX(name, code, http, text) LH_##name,
    LH_STATUS_MAP(XX)
#undef XX
};

#define LH_MUST_USE __attribute__((warn_unused_result))

/* The detail of one failure, owned by the caller. `text` names the place, and is cut, never
 * overrun. */
struct lh_error {
    enum lh_status status;
    int sys_errno;
    char text[160];
};

/* The code a client reads, such as "index_not_found". */
const char *lh_status_code(enum lh_status status);

/* The status of such a code; false when there is none. */
bool lh_status_of_code(struct lh_str code, enum lh_status *status);

/* The default text of a status. */
const char *lh_status_text(enum lh_status status);

/* The HTTP status number. */
int lh_status_http(enum lh_status status);

/* Fills `error` (when not NULL) and returns `status`, so that a failing function can end in
 * `return lh_error_set(error, LH_X, "...", ...)`. */
enum lh_status lh_error_set(struct lh_error *error, enum lh_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same with an errno, whose text is appended. */
enum lh_status lh_error_sys(struct lh_error *error, enum lh_status status, int sys_errno,
                            const char *format, ...) __attribute__((format(printf, 4, 5)));

#ifdef __cplusplus
}
#endif

#endif
