/* Whether a compressed file is all there. The ingest's thread.
 *
 * DuckDB takes a compressed file that was cut off for its end. So gzip is inflated once before (RFC
 * 1952: members one behind another, each with its length and CRC); of zstd, whose blocks say how
 * long they are, the headers are walked (RFC 8878, section 3.1). */
#include "sql/ingest_internal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
#include <zlib.h>

#define BLOCK_BYTES (128u << 10)

static enum lh_status tell_cut(struct lh_error *error, const char *name)
{
    return lh_error_set(error, LH_INVALID_DATA, "the %s file is cut off", name);
}

/* ---- gzip ---- */

struct inflating {
    z_stream stream;
    bool is_in_member;
    unsigned char in[BLOCK_BYTES];
    unsigned char out[BLOCK_BYTES];
};

/* Inflates what is in `in`. */
static enum lh_status inflate_block(struct inflating *state, struct lh_error *error)
{
    z_stream *stream = &state->stream;
    while (stream->avail_in > 0) {
        if (!state->is_in_member && inflateReset(stream) != Z_OK)
            return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory to inflate");
        state->is_in_member = true;
        do {
            stream->next_out = state->out;
            stream->avail_out = sizeof state->out;
            int result = inflate(stream, Z_NO_FLUSH);
            if (result == Z_STREAM_END) {
                state->is_in_member = false;
                break;
            }
            if (result != Z_OK && result != Z_BUF_ERROR)
                return lh_error_set(error, LH_INVALID_DATA, "not gzip: %.100s",
                                    stream->msg != NULL ? stream->msg : "its data is damaged");
        } while (stream->avail_out == 0);
    }
    return LH_OK;
}

static enum lh_status check_gzip(const struct lh_ingest *ingest, int file, struct lh_error *error)
{
    enum lh_status status = LH_OK;
    ssize_t got;
    struct inflating *state = calloc(1, sizeof *state);
    if (state == NULL || inflateInit2(&state->stream, 15 + 16) != Z_OK) {
        free(state);
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory to inflate");
    }
    while (status == LH_OK && (got = read(file, state->in, sizeof state->in)) > 0) {
        state->stream.next_in = state->in;
        state->stream.avail_in = (unsigned)got;
        status = inflate_block(state, error);
        if (status == LH_OK && lh__sql_is_interrupted(ingest->session, error))
            status = LH_CLOSED;
    }
    if (status == LH_OK && state->is_in_member)
        status = tell_cut(error, "gzip");
    inflateEnd(&state->stream);
    free(state);
    return status;
}

/* ---- zstd ---- */

struct walk {
    int file;
    uint64_t at;
    uint64_t size; /* of the file */
};

/* The next `len` bytes, up to 8, as a little-endian number. False: the file ends before. */
static bool take(struct walk *walk, unsigned len, uint64_t *number)
{
    unsigned char bytes[8];
    *number = 0;
    if (walk->size - walk->at < len ||
        pread(walk->file, bytes, len, (off_t)walk->at) != (ssize_t)len)
        return false;
    for (unsigned i = len; i-- > 0;)
        *number = *number << 8 | bytes[i];
    walk->at += len;
    return true;
}

static bool skip(struct walk *walk, uint64_t len)
{
    if (walk->size - walk->at < len)
        return false;
    walk->at += len;
    return true;
}

/* A frame behind its magic number. */
static bool walk_frame(struct walk *walk)
{
    static const unsigned id_bytes[] = {0, 1, 2, 4}, size_bytes[] = {0, 2, 4, 8};
    uint64_t descriptor, block;
    if (!take(walk, 1, &descriptor))
        return false;
    bool is_single = descriptor >> 5 & 1;
    uint64_t rest = id_bytes[descriptor & 3] + size_bytes[descriptor >> 6] + !is_single;
    rest += is_single && descriptor >> 6 == 0;
    if (!skip(walk, rest))
        return false;
    do {
        if (!take(walk, 3, &block) || !skip(walk, (block >> 1 & 3) == 1 ? 1 : block >> 3))
            return false;
    } while ((block & 1) == 0);
    return skip(walk, (descriptor >> 2 & 1) != 0 ? 4 : 0);
}

static enum lh_status check_zstd(int file, struct lh_error *error)
{
    off_t end = lseek(file, 0, SEEK_END);
    struct walk walk = {.file = file, .size = end > 0 ? (uint64_t)end : 0};
    uint64_t magic, length;
    while (walk.at < walk.size) {
        bool is_whole = take(&walk, 4, &magic);
        if (is_whole && magic == 0xfd2fb528)
            is_whole = walk_frame(&walk);
        else if (is_whole && magic >> 4 == 0x184d2a5) /* a skippable frame */
            is_whole = take(&walk, 4, &length) && skip(&walk, length);
        else if (is_whole)
            return lh_error_set(error, LH_INVALID_DATA, "not zstd: its data is damaged");
        if (!is_whole)
            return tell_cut(error, "zstd");
    }
    return LH_OK;
}

enum lh_status lh__ingest_check_whole(const struct lh_ingest *ingest, struct lh_error *error)
{
    if (ingest->compression == LH_INGEST_PLAIN)
        return LH_OK;
    int file = open(ingest->source->path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return lh_error_set(error, LH_IO, "the file cannot be read");
    enum lh_status status = ingest->compression == LH_INGEST_GZIP ? check_gzip(ingest, file, error)
                                                                  : check_zstd(file, error);
    close(file);
    return status;
}
