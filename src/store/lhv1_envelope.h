/* The envelope of an LHV1 file as text, and its members. Private to this folder.
 *
 * Errors are LH_CORRUPT and begin with the byte of the file that is wrong. */
#ifndef LH_STORE_LHV1_ENVELOPE_H
#define LH_STORE_LHV1_ENVELOPE_H

#include "store/lhv1.h"

#define LH__LHV1_HEAD_BYTES 8u /* the magic and the length */

struct lh__lhv1_text {
    struct lh_buf bytes; /* the file's first ones, up to the end of the envelope */
    struct lh_str json;  /* in `bytes`; checked: valid JSON */
    uint64_t file_bytes;
    uint32_t version;
};

/* Reads the text and finds its version, which may be one that nobody knows. */
LH_MUST_USE enum lh_status lh__lhv1_text_read(struct lh_disk *disk, int file,
                                              struct lh__lhv1_text *text, struct lh_error *error);
void lh__lhv1_text_deinit(struct lh__lhv1_text *text);

/* Reads the members of a version 2. `envelope` is zeroed before, and is to be deinitialised. */
LH_MUST_USE enum lh_status lh__lhv1_parse(const struct lh__lhv1_text *text,
                                          struct lh_lhv1_envelope *envelope,
                                          struct lh_error *error);

/* The same for version 1; `metadata` is its member, an object or null, in the text. */
LH_MUST_USE enum lh_status lh__lhv1_parse_go(const struct lh__lhv1_text *text,
                                             struct lh_lhv1_envelope *envelope,
                                             struct lh_str *metadata, struct lh_error *error);

/* Reads `len` bytes at `offset`; fewer are LH_CORRUPT. */
LH_MUST_USE enum lh_status lh__lhv1_read(struct lh_disk *disk, int file, void *bytes, size_t len,
                                         uint64_t offset, struct lh_error *error);

#endif
