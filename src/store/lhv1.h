/* LHV1, the file of one index: "LHV1", the length of an envelope, the envelope (JSON), its
 * checksum, and from a 4096-byte boundary on one section a shard. docs/FORMAT.md has the bytes.
 *
 * This folder knows the envelope and how a file is written without ever being half there; what is
 * inside a section is the shard's business (shards/section.h). Version 1, the Go daemon's, is read
 * by store/lhv1_go.h. */
#ifndef LH_STORE_LHV1_H
#define LH_STORE_LHV1_H

#include "store/disk.h"
#include "store/record.h"

#define LH_LHV1_ALIGN_BYTES 4096u
#define LH_LHV1_FOLDER      "_vectors"

struct lh_lhv1_section {
    uint64_t offset; /* from the file's begin, a multiple of LH_LHV1_ALIGN_BYTES */
    uint64_t length;
    uint64_t xxh3; /* of its `length` bytes */
    uint32_t count;
};

struct lh_lhv1_envelope {
    uint32_t version;
    /* In version 1, uuid, seed and shards are zero: it has none, and as many shards as the reader
     * is configured to make; ef_construction is the default. */
    struct lh_index_params params;
    uint64_t count;                   /* 0 in version 1, whose graph knows (store/lhv1_go.h) */
    uint64_t lsn;                     /* the last change that is in the file */
    uint64_t created_at_ms;           /* of the file */
    uint64_t bytes;                   /* of all before the first section, or version 1's graph */
    struct lh_lhv1_section *sections; /* params.shards of them; the envelope's */
};

void lh_lhv1_envelope_deinit(struct lh_lhv1_envelope *envelope);

/* Bytes before the first section of an index of `shards` shards: enough for any numbers. */
uint64_t lh_lhv1_envelope_room(uint32_t shards);

/* Appends exactly lh_lhv1_envelope_room bytes. */
LH_MUST_USE enum lh_status lh_lhv1_envelope_encode(const struct lh_lhv1_envelope *envelope,
                                                   struct lh_buf *out);

/* Reads the envelope of an open file of either version, and checks everything in it: the checksum,
 * every name, limit and number, that sections are aligned, in order, apart, and inside the file.
 * LH_CORRUPT names the offset; an unknown version is LH_NOT_IMPLEMENTED with its number. */
LH_MUST_USE enum lh_status lh_lhv1_envelope_read(struct lh_disk *disk, int file,
                                                 struct lh_lhv1_envelope *envelope,
                                                 struct lh_error *error);

/* ---- what it says, as text ---- */

#define LH_LHV1_DISTANCES  3u
#define LH_LHV1_TIME_CHARS 24u
#define LH_LHV1_UUID_CHARS 36u

const char *lh_lhv1_distance_name(uint32_t distance);

/* "2026-11-21T07:58:56.123Z" of milliseconds since 1970, before the year 10000. */
void lh_lhv1_time_text(uint64_t ms, char out[LH_LHV1_TIME_CHARS + 1]);

/* "679e0307-be5f-5828-a0e7-9afab4462864" */
void lh_lhv1_uuid_text(const uint8_t uuid[16], char out[LH_LHV1_UUID_CHARS + 1]);

/* ---- writing one ---- */

/* "<folder>/<name>.lhv1" and its temporary name, for a name that is valid. */
struct lh_lhv1_paths {
    char file[LH_NAME_BYTES_MAX + 64];
    char temp[LH_NAME_BYTES_MAX + 64];
};
void lh_lhv1_paths(const char *name, struct lh_lhv1_paths *paths);

#endif
