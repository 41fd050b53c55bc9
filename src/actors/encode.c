/* Answers as JSON. Runs on the decoder threads, on a request that nobody else holds.
 *
 * Metadata was validated and minified when it came in, so it is copied as it is. */
#include "actors/decoder.h"
#include "actors/vectord.h"

#include "ext/number.h"
#include "shards/topk.h"
#include <assert.h>
#include <stdlib.h>

static struct lh_str id_of(const struct lh_found *found, const struct lh_found_list *list)
{
    return (struct lh_str){list->text.ptr + found->text_at, found->id_len};
}

static struct lh_str metadata_of(const struct lh_found *found, const struct lh_found_list *list)
{
    return (struct lh_str){list->text.ptr + found->text_at + found->id_len, found->metadata_len};
}

static void encode_metadata(struct lh_buf *out, const struct lh_found *found,
                            const struct lh_found_list *list)
{
    lh_buf_append_str(out, LH_STR(",\"metadata\":"));
    lh_buf_append_str(out, found->has_metadata ? metadata_of(found, list) : LH_STR("{}"));
}

/* What ends an item: its vector, if asked for. */
static void encode_end(struct lh_buf *out, const struct lh_found *found,
                       const struct lh_found_list *list, bool with_vector, uint32_t dimension)
{
    if (with_vector) {
        lh_buf_append_str(out, LH_STR(",\"vector\":"));
        lh_number_append_f32_array(out, list->rows + found->row_at, dimension);
    }
    lh_buf_append_char(out, '}');
}

static void encode_results(struct lh_request *request, uint32_t query, struct lh_pick *picks)
{
    struct lh_buf *out = &request->answer;
    uint32_t count =
        lh_topk_merge(request->parts, request->part_count, query, request->search.k, picks);
    lh_buf_append_str(out, LH_STR("{\"results\":["));
    for (uint32_t i = 0; i < count; i++) {
        const struct lh_found *found = picks[i].found;
        lh_buf_append_str(out, i == 0 ? LH_STR("{\"id\":") : LH_STR(",{\"id\":"));
        lh_buf_append_json_string(out, id_of(found, picks[i].list));
        lh_buf_append_str(out, LH_STR(",\"distance\":"));
        lh_number_append_f32(out, found->distance);
        if (found->has_metadata)
            encode_metadata(out, found, picks[i].list);
        encode_end(out, found, picks[i].list, request->search.with_vector,
                   request->batch.dimension);
    }
    lh_buf_append_str(out, LH_STR("]}"));
}

static void encode_search(struct lh_request *request)
{
    struct lh_buf *out = &request->answer;
    struct lh_pick *picks = malloc(request->search.k * sizeof *picks);
    if (picks == NULL) {
        out->failed = true;
        return;
    }
    if (!request->search.is_batch) {
        encode_results(request, 0, picks);
    } else {
        lh_buf_append_str(out, LH_STR("{\"batches\":["));
        for (uint32_t i = 0; i < request->batch.count; i++) {
            if (i > 0)
                lh_buf_append_char(out, ',');
            encode_results(request, i, picks);
        }
        lh_buf_append_str(out, LH_STR("]}"));
    }
    free(picks);
}

static void encode_item(struct lh_request *request)
{
    struct lh_buf *out = &request->answer;
    const struct lh_found_list *list = &request->parts[0].found;
    const struct lh_found *found = &list->items[0];
    lh_buf_append_str(out, LH_STR("{\"id\":"));
    lh_buf_append_json_string(out, id_of(found, list));
    encode_metadata(out, found, list);
    encode_end(out, found, list, true, request->parts[0].graph.dimension);
}

static void encode_page(struct lh_request *request)
{
    struct lh_buf *out = &request->answer;
    bool is_first = true;
    lh_buf_append_str(out, LH_STR("{\"items\":["));
    for (uint32_t p = 0; p < request->part_count; p++) {
        const struct lh_part *part = &request->parts[p];
        for (uint32_t i = 0; i < part->found.count; i++) {
            lh_buf_append_str(out, is_first ? LH_STR("{\"id\":") : LH_STR(",{\"id\":"));
            lh_buf_append_json_string(out, id_of(&part->found.items[i], &part->found));
            encode_metadata(out, &part->found.items[i], &part->found);
            encode_end(out, &part->found.items[i], &part->found, request->with_vector,
                       part->graph.dimension);
            is_first = false;
        }
    }
    lh_buf_append_char(out, ']');
    if (request->text.len > 0) {
        lh_buf_append_str(out, LH_STR(",\"next_cursor\":"));
        lh_buf_append_json_string(out, lh_buf_str(&request->text));
    }
    lh_buf_append_char(out, '}');
}

void lh_encode_answer(struct lh_request *request)
{
    assert(request->error.status == LH_OK);
    switch (request->op) {
    case LH_OP_SEARCH:
        encode_search(request);
        break;
    case LH_OP_ITEM_GET:
        encode_item(request);
        break;
    case LH_OP_ITEMS_PAGE:
        encode_page(request);
        break;
    default:
        assert(!"an operation whose answer vectord writes");
    }
    if (lh_buf_failed(&request->answer))
        lh_error_set(&request->error, LH_OUT_OF_MEMORY, "not enough memory for the answer");
}
