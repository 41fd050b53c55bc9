/* Error answers of other services. Any thread; no state. */
#include "actors/told.h"

#include "ext/json_read.h"

enum lh_status lh_told_error(const char *service, const struct lh_http_ask *ask,
                             const struct lh_http_told *told, struct lh_error *error)
{
    struct lh_json_doc *doc;
    struct lh_json root, object;
    struct lh_str code, message;
    enum lh_status status = LH_OK;
    lh_error_set(error, LH_BAD_GATEWAY, "%s answered %d to %s %.80s", service, told->status,
                 ask->method, ask->path);
    if (lh_json_doc_create(lh_buf_str(&told->body), &doc, &root, NULL) != LH_OK)
        return error->status;
    if (lh_json_get(root, "error", &object) && lh_json_get_str(object, "code", &code) &&
        lh_json_get_str(object, "message", &message) && lh_status_of_code(code, &status) &&
        status != LH_OK)
        lh_error_set(error, status, "%.*s",
                     (int)(message.len < sizeof error->text ? message.len : sizeof error->text - 1),
                     message.ptr);
    lh_json_doc_destroy(doc);
    return error->status;
}
