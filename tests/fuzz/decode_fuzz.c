/* Any bytes as the body of each kind of request: no crash, and what is accepted keeps the contract.
 * The first byte chooses the kind. */
#include "decode_check.h"
#include "ext/decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_search(struct lh_decoder *decoder, struct lh_buf *body)
{
    struct lh_search_request request;
    struct lh_error error;
    if (lh_decode_search(decoder, body, &request, &error) == LH_OK) {
        check(request.k >= 1 && request.k <= LH_K_MAX && request.ef <= LH_EF_MAX);
        check(request.queries.count >= 1 && request.queries.count <= LH_BATCH_SEARCH_MAX);
        check_rows(&request.queries);
        lh_batch_deinit(&request.queries);
    } else {
        check_error(&error);
    }
}

static void fuzz_index(struct lh_decoder *decoder, struct lh_buf *body)
{
    struct lh_index_request request;
    struct lh_error error;
    if (lh_decode_index(decoder, body, &request, &error) == LH_OK) {
        check(lh_index_name_is_valid(lh_str_of(request.name)));
        check(request.dimension >= 1 && request.dimension <= LH_DIMENSION_MAX);
        check(request.m >= LH_M_MIN && request.m <= LH_M_MAX && request.distance <= 2);
        check(request.shards <= LH_SHARDS_MAX);
    } else {
        check_error(&error);
    }
}

static void fuzz_batch(struct lh_decoder *decoder, struct lh_buf *body, bool ids)
{
    struct lh_batch batch;
    struct lh_error error;
    enum lh_status status = ids ? lh_decode_ids(decoder, body, &batch, &error)
                                : lh_decode_items(decoder, body, &batch, &error);
    if (status == LH_OK) {
        check_items(decoder, &batch);
        if (!ids) {
            check_rows(&batch);
        }
    } else {
        check_error(&error);
    }
    lh_batch_deinit(&batch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct lh_decoder *decoder;
    struct lh_buf body;
    if (size == 0 || lh_decoder_create(&decoder) != LH_OK) {
        return 0;
    }
    body = tight_body(data + 1, size - 1);
    switch (data[0] % 4) {
    case 0:
        fuzz_batch(decoder, &body, false);
        break;
    case 1:
        fuzz_batch(decoder, &body, true);
        break;
    case 2:
        fuzz_search(decoder, &body);
        break;
    default:
        fuzz_index(decoder, &body);
    }
    lh_buf_deinit(&body);
    lh_decoder_destroy(decoder);
    return 0;
}
