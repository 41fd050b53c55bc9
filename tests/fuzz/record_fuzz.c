/* Any bytes as the payload of a log record: refused with their place, or taken, and then encoded
 * to the same bytes. */
#include "store/record.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *tight = malloc(size > 0 ? size : 1); /* a byte read too far is found */
    struct lh_buf again = LH_BUF_EMPTY;
    struct lh_record record;
    struct lh_error error;
    enum lh_status status;
    check(tight != NULL);
    if (size > 0)
        memcpy(tight, data, size);
    status = lh_record_decode(tight, size, &record, &error);
    if (status == LH_OK) {
        check(lh_record_encode(&record, &again) == LH_OK);
        check(again.len == size && memcmp(again.ptr, data, size) == 0);
        lh_record_deinit(&record);
    } else {
        check(status == LH_CORRUPT && memcmp(error.text, "byte ", 5) == 0);
    }
    lh_buf_deinit(&again);
    free(tight);
    return 0;
}
