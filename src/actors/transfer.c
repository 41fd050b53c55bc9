/* A transfer's memory, and what every store says the same of: conditions and ranges of a GET
 * (RFC 9110, sections 13 and 14). Whichever thread holds the transfer. */
#include "actors/messages.h"

#include <inttypes.h>
#include <stdlib.h>

struct lh_transfer *lh_transfer_create(enum lh_transfer_op op, struct lh_mailbox *reply_to)
{
    struct lh_transfer *transfer = calloc(1, sizeof *transfer);
    if (transfer == NULL)
        return NULL;
    transfer->head = (struct lh_msg){.type = LH_MSG_TRANSFER, .lane = LH_LANE_EXPRESS};
    transfer->op = op;
    transfer->reply_to = reply_to;
    transfer->length = LH_HTTP_LENGTH_UNKNOWN;
    return transfer;
}

void lh_transfer_destroy(struct lh_transfer *transfer)
{
    if (transfer == NULL)
        return;
    lh_buf_deinit(&transfer->key);
    lh_buf_deinit(&transfer->if_match);
    lh_buf_deinit(&transfer->if_none_match);
    lh_buf_deinit(&transfer->if_modified_since);
    lh_buf_deinit(&transfer->if_range);
    lh_buf_deinit(&transfer->cursor);
    lh_buf_deinit(&transfer->piece);
    lh_pipe_close(&transfer->pipe);
    lh_buf_deinit(&transfer->keys);
    free(transfer->entries);
    free(transfer);
}

/* If-Range has one strong entity tag, or the date of Last-Modified. */
static bool range_is_void(const struct lh_transfer *transfer)
{
    struct lh_str condition = lh_buf_str(&transfer->if_range);
    char date[LH_HTTP_DATE_BYTES];
    lh_http_date(transfer->info.modified_ms, date);
    return condition.len > 0 && !lh_str_eq(condition, lh_str_of(date)) &&
           (*condition.ptr != '"' || !lh_etag_is_in(condition, transfer->info.etag, true));
}

static bool is_not_modified(const struct lh_transfer *transfer)
{
    struct lh_str tags = lh_buf_str(&transfer->if_none_match);
    char date[LH_HTTP_DATE_BYTES];
    if (tags.len > 0)
        return lh_etag_is_in(tags, transfer->info.etag, false);
    lh_http_date(transfer->info.modified_ms, date);
    /* The very date, not a later one: clocks go back, and files are put back. */
    return lh_str_eq(lh_buf_str(&transfer->if_modified_since), lh_str_of(date));
}

static bool take_range(struct lh_transfer *transfer)
{
    uint64_t size = transfer->info.size;
    uint64_t last = transfer->range_last;
    if (transfer->is_range_suffix) {
        transfer->body_length = last < size ? last : size;
        transfer->body_first = size - transfer->body_length;
        return transfer->body_length > 0;
    }
    if (transfer->range_first >= size)
        return false;
    if (last >= size)
        last = size - 1;
    transfer->body_first = transfer->range_first;
    transfer->body_length = last - transfer->range_first + 1;
    return true;
}

enum lh_status lh_transfer_check(struct lh_transfer *transfer)
{
    struct lh_str must_be = lh_buf_str(&transfer->if_match);
    transfer->body_first = 0;
    transfer->body_length = transfer->info.size;
    if (must_be.len > 0 && !lh_etag_is_in(must_be, transfer->info.etag, true))
        return lh_error_set(&transfer->error, LH_PRECONDITION_FAILED,
                            "If-Match: the object has the ETag \"%s\"", transfer->info.etag);
    transfer->is_not_modified = is_not_modified(transfer);
    if (transfer->is_not_modified)
        return LH_OK;
    transfer->has_range = transfer->has_range && !range_is_void(transfer);
    if (transfer->has_range && !take_range(transfer))
        return lh_error_set(&transfer->error, LH_RANGE_NOT_SATISFIABLE,
                            "Range: the object has %" PRIu64 " bytes", transfer->info.size);
    return LH_OK;
}
