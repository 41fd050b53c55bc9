/* An index file read to its end for its checksums. Any thread that may block in reading. */
#include "store/lhv1_check.h"

#include "store/lhv1_go.h"
#include <inttypes.h>
#include <stdlib.h>
#include <xxhash.h>

#define READ_BYTES (1u << 20)

static enum lh_status sum_section(struct lh_disk *disk, int file,
                                  const struct lh_lhv1_section *section, XXH3_state_t *state,
                                  char *bytes, struct lh_error *error)
{
    for (uint64_t at = 0; at < section->length;) {
        uint64_t left = section->length - at;
        size_t len = left < READ_BYTES ? (size_t)left : READ_BYTES;
        size_t got = 0;
        int rc = lh_disk_read(disk, file, bytes, len, section->offset + at, &got);
        if (rc != 0)
            return lh_error_sys(error, LH_DISK_FAILED, -rc, "reading at byte %" PRIu64,
                                section->offset + at);
        if (got < len)
            return lh_error_set(error, LH_CORRUPT, "byte %" PRIu64 ": the file ends here",
                                section->offset + at + got);
        XXH3_64bits_update(state, bytes, len);
        at += len;
    }
    uint64_t computed = XXH3_64bits_digest(state);
    if (computed != section->xxh3)
        return lh_error_set(error, LH_CORRUPT,
                            "bytes %" PRIu64 " to %" PRIu64 ": their checksum is %016" PRIx64
                            ", it was %016" PRIx64,
                            section->offset, section->offset + section->length - 1, computed,
                            section->xxh3);
    return LH_OK;
}

static enum lh_status check_sections(struct lh_disk *disk, int file,
                                     const struct lh_lhv1_envelope *envelope,
                                     struct lh_error *error)
{
    XXH3_state_t *state = XXH3_createState();
    char *bytes = malloc(READ_BYTES);
    enum lh_status status = LH_OK;
    if (state == NULL || bytes == NULL)
        status = lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory");
    for (uint32_t i = 0; i < envelope->params.shards && status == LH_OK; i++) {
        XXH3_64bits_reset(state);
        status = sum_section(disk, file, &envelope->sections[i], state, bytes, error);
    }
    free(bytes);
    XXH3_freeState(state);
    return status;
}

static enum lh_status check_go(struct lh_disk *disk, int file, struct lh_error *error)
{
    struct lh_lhv1_go *reader;
    struct lh_batch batch = {0};
    enum lh_status status = lh_lhv1_go_open(disk, file, &reader, error);
    if (status != LH_OK)
        return status;
    while ((status = lh_lhv1_go_next(reader, &batch, error)) == LH_OK)
        lh_batch_deinit(&batch);
    lh_lhv1_go_close(reader);
    return status == LH_NOT_FOUND ? LH_OK : status;
}

enum lh_status lh_lhv1_check(struct lh_disk *disk, int file, struct lh_lhv1_envelope *envelope,
                             struct lh_error *error)
{
    enum lh_status status = lh_lhv1_envelope_read(disk, file, envelope, error);
    if (status != LH_OK)
        return status;
    status = envelope->version == 1 ? check_go(disk, file, error)
                                    : check_sections(disk, file, envelope, error);
    if (status != LH_OK)
        lh_lhv1_envelope_deinit(envelope);
    return status;
}
