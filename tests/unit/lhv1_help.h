/* Files of LHV1 in memory for tests and fuzzers: a disk that holds one, and its parts put together
 * byte by byte, rightly or wrongly. */
#ifndef LH_TESTS_LHV1_HELP_H
#define LH_TESTS_LHV1_HELP_H

#include "store/lhv1.h"
#include "store/lhv1_go.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* ---- a disk of one file, which every number means ---- */

struct memory_disk {
    struct lh_disk disk; /* first */
    const struct lh_buf *bytes;
    uint64_t file_bytes; /* more than bytes->len: zeros behind them */
    int reads_left;      /* before a read fails with EIO; below 0: none does */
};

static inline int memory_disk_size(struct lh_disk *disk, int file, uint64_t *bytes)
{
    (void)file;
    *bytes = ((struct memory_disk *)disk)->file_bytes;
    return 0;
}

static inline int memory_disk_read(struct lh_disk *disk, int file, void *bytes, size_t len,
                                   uint64_t offset, size_t *got)
{
    struct memory_disk *memory = (struct memory_disk *)disk;
    uint64_t there = memory->bytes->len;
    (void)file;
    *got = 0;
    if (memory->reads_left == 0)
        return -EIO;
    memory->reads_left--;
    if (offset >= memory->file_bytes)
        return 0;
    *got = len < memory->file_bytes - offset ? len : memory->file_bytes - offset;
    memset(bytes, 0, *got);
    if (offset < there)
        memcpy(bytes, memory->bytes->ptr + offset, *got < there - offset ? *got : there - offset);
    return 0;
}

static const struct lh_disk_calls memory_disk_calls = {
    .name = "memory", .read = memory_disk_read, .size = memory_disk_size};

static inline struct memory_disk memory_disk_of(const struct lh_buf *bytes)
{
    return (struct memory_disk){{&memory_disk_calls}, bytes, bytes->len, -1};
}

/* ---- the parts of a file ---- */

static inline void lhv1_head(struct lh_buf *file, uint32_t length)
{
    uint32_t wire = htobe32(length);
    lh_buf_append(file, "LHV1", 4);
    lh_buf_append(file, &wire, sizeof wire);
}

/* A version 2's envelope of any text: head, checksum and padding are right, so that the text is
 * looked at. `shards` decides how much room there is. */
static inline void lhv1_seal(struct lh_buf *file, struct lh_str json, uint32_t shards)
{
    uint64_t room = lh_lhv1_envelope_room(shards);
    uint64_t checksum;
    lhv1_head(file, (uint32_t)json.len);
    lh_buf_append_str(file, json);
    checksum = htole64(XXH3_64bits(file->ptr, file->len));
    lh_buf_append(file, &checksum, sizeof checksum);
    while (file->len < room)
        lh_buf_append_char(file, 0);
}

/* A signed variable-length integer, as Go's binary.PutVarint writes it. */
static inline void go_int(struct lh_buf *file, int64_t value)
{
    uint64_t zigzag = (uint64_t)value << 1 ^ (uint64_t)(value >> 63);
    for (; zigzag >= 0x80; zigzag >>= 7)
        lh_buf_append_char(file, (char)(zigzag | 0x80));
    lh_buf_append_char(file, (char)zigzag);
}

static inline void go_string(struct lh_buf *file, const char *text)
{
    go_int(file, (int64_t)strlen(text));
    lh_buf_append_str(file, lh_str_of(text));
}

static inline void go_vector(struct lh_buf *file, const float *row, uint32_t dimension)
{
    go_int(file, dimension);
    lh_buf_append(file, row, dimension * sizeof *row);
}

#endif
