/* Any bytes as a stream of NDJSON, cut where the first byte says: no crash, progress is made or an
 * error given, and a stream in two pieces gives the items of the stream in one. */
#include "decode_check.h"
#include "ext/decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct outcome {
    uint64_t items;
    uint64_t lines;
    enum lh_status status;
};

/* Decodes `bytes` until they end, an error comes, or the rest is no whole line. */
static size_t drain(struct lh_decoder *decoder, const uint8_t *bytes, size_t size, bool is_last,
                    struct outcome *outcome)
{
    struct lh_buf text = tight_body(bytes, size);
    size_t offset = 0;
    while (outcome->status == LH_OK && offset < size) {
        struct lh_batch batch;
        struct lh_error error;
        size_t consumed;
        uint64_t lines;
        outcome->status = lh_decode_ndjson(decoder, &text, offset, is_last, outcome->lines + 1,
                                           &batch, &consumed, &lines, &error);
        if (outcome->status != LH_OK) {
            check_error(&error);
            break;
        }
        check(consumed <= size - offset && (consumed > 0 || !is_last));
        check(batch.count <= lines && batch.odd_item == LH_NO_ITEM);
        check_items(decoder, &batch);
        check_rows(&batch);
        outcome->items += batch.count;
        outcome->lines += lines;
        offset += consumed;
        lh_batch_deinit(&batch);
        if (consumed == 0) {
            break;
        }
    }
    lh_buf_deinit(&text);
    return offset;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct lh_decoder *decoder;
    struct outcome whole = {0};
    struct outcome cut = {0};
    size_t first;
    if (size == 0 || lh_decoder_create(&decoder) != LH_OK) {
        return 0;
    }
    first = (size - 1) * data[0] / 255;
    drain(decoder, data + 1, size - 1, true, &whole);
    first = drain(decoder, data + 1, first, false, &cut);
    drain(decoder, data + 1 + first, size - 1 - first, true, &cut);
    check(whole.items == cut.items && whole.status == cut.status);
    check(whole.lines == cut.lines || whole.status != LH_OK); /* blank lines before a bad one */
    lh_decoder_destroy(decoder);
    return 0;
}
