/* Any bytes as an answer of S3: refused with a reason, or read within its bounds. */
#include "store/s3_xml.h"

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
    struct lh_s3_xml xml;
    struct lh_error error = {.status = LH_OK};
    enum lh_status status = lh_s3_xml_read((struct lh_str){(const char *)data, size}, &xml, &error);
    if (status != LH_OK) {
        check(status == LH_BAD_GATEWAY && memcmp(error.text, "s3: ", 4) == 0);
        check(xml.entries == NULL && xml.keys.ptr == NULL && xml.upload_id.ptr == NULL);
        return 0;
    }
    size_t bytes = 0;
    check(xml.entry_count <= LH_S3_PAGE_KEYS_MAX);
    for (uint32_t i = 0; i < xml.entry_count; i++) {
        const struct lh_s3_entry *entry = &xml.entries[i];
        check(entry->key.len > 0 && entry->key.len <= LH_S3_TEXT_BYTES_MAX);
        check(entry->key.ptr == xml.keys.ptr + bytes);
        bytes += entry->key.len;
        check(strlen(entry->etag) <= LH_S3_ETAG_BYTES_MAX);
    }
    check(bytes == xml.keys.len);
    check(xml.upload_id.len <= LH_S3_TEXT_BYTES_MAX);
    lh_s3_xml_deinit(&xml);
    return 0;
}
