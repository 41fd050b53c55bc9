/* Any bytes as an LHV1 file: no crash, and what is accepted keeps the contract. The first byte
 * chooses what the rest is: a whole file, the text of a version 2's envelope (head, checksum and
 * padding are put around it, so that the fuzzer gets behind them), or the text of a version 1's
 * envelope, a NUL and its graph. */
#include "../unit/lhv1_help.h"
#include "decode_check.h"

#include <math.h>

#define FILE_BYTES (1u << 30) /* of a version 2: sections have room */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was read is written and read again as the same. */
static void check_envelope(const struct lh_lhv1_envelope *envelope)
{
    struct lh_lhv1_envelope again;
    struct lh_buf first = LH_BUF_EMPTY;
    struct lh_buf second = LH_BUF_EMPTY;
    struct lh_error error;
    struct memory_disk disk;
    check(lh_lhv1_envelope_encode(envelope, &first) == LH_OK);
    check(first.len == envelope->bytes);
    disk = memory_disk_of(&first);
    disk.file_bytes = FILE_BYTES;
    check(lh_lhv1_envelope_read(&disk.disk, 0, &again, &error) == LH_OK);
    check(lh_lhv1_envelope_encode(&again, &second) == LH_OK);
    check(lh_str_eq(lh_buf_str(&first), lh_buf_str(&second)));
    lh_lhv1_envelope_deinit(&again);
    lh_buf_deinit(&first);
    lh_buf_deinit(&second);
}

static void check_go(struct lh_decoder *decoder, struct lh_disk *disk, uint32_t distance)
{
    struct lh_lhv1_go *reader;
    struct lh_lhv1_go_facts facts;
    struct lh_batch batch;
    struct lh_error error;
    uint64_t items = 0;
    enum lh_status status = lh_lhv1_go_open(disk, 0, &reader, &error);
    if (status != LH_OK) {
        check_error(&error);
        return;
    }
    while ((status = lh_lhv1_go_next(reader, &batch, &error)) == LH_OK) {
        check(batch.count >= 1 && batch.count <= LH_LHV1_GO_BATCH_ITEMS);
        check(batch.odd_item == LH_NO_ITEM && (distance != 0 || batch.zero_item == LH_NO_ITEM));
        check_rows(&batch);
        check_items(decoder, &batch);
        items += batch.count;
        lh_batch_deinit(&batch);
    }
    facts = lh_lhv1_go_facts(reader);
    if (status == LH_NOT_FOUND)
        check(items + facts.zero_vectors == facts.items && facts.metadata <= items);
    else
        check_error(&error);
    lh_lhv1_go_close(reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct lh_decoder *decoder;
    struct lh_lhv1_envelope envelope;
    struct lh_buf file = LH_BUF_EMPTY;
    struct lh_str rest = {(const char *)data + 1, size - 1};
    struct memory_disk disk;
    struct lh_error error;
    if (size == 0 || lh_decoder_create(&decoder) != LH_OK)
        return 0;
    if (data[0] % 3 == 0) {
        lh_buf_append_str(&file, rest);
    } else if (data[0] % 3 == 1) {
        lhv1_seal(&file, rest, 1);
    } else {
        size_t length = strnlen(rest.ptr, rest.len);
        size_t graph = length + (length < rest.len);
        lhv1_head(&file, (uint32_t)length);
        lh_buf_append(&file, rest.ptr, length);
        lh_buf_append(&file, rest.ptr + graph, rest.len - graph);
    }
    check(!lh_buf_failed(&file));
    disk = memory_disk_of(&file);
    if (data[0] % 3 == 1)
        disk.file_bytes = FILE_BYTES;
    if (lh_lhv1_envelope_read(&disk.disk, 0, &envelope, &error) != LH_OK) {
        check_error(&error);
    } else {
        check(lh_index_name_is_valid(lh_str_of(envelope.params.name)));
        if (envelope.version == 2)
            check_envelope(&envelope);
        else
            check_go(decoder, &disk.disk, envelope.params.distance);
        lh_lhv1_envelope_deinit(&envelope);
    }
    lh_decoder_destroy(decoder);
    lh_buf_deinit(&file);
    return 0;
}
