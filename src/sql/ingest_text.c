/* The text of a file, block by block, without what compresses it. The ingest's thread.
 *
 * Compressed files are read to their end, whose checksums must be right: DuckDB takes one that was
 * cut off for all of it. */
#include "sql/ingest_internal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#define BLOCK_BYTES (128u << 10)

struct reading {
    const struct lh_sql_session *session;
    struct lh__ingest_taker *taker;
    int file;
    char in[BLOCK_BYTES];
    char out[BLOCK_BYTES];
};

static enum lh_status take(struct reading *reading, const char *text, size_t len,
                           struct lh_error *error)
{
    return reading->taker->take(reading->taker, (struct lh_str){text, len}, error);
}

/* The next of the file; `len` 0 at its end. */
static enum lh_status read_block(struct reading *reading, size_t *len, struct lh_error *error)
{
    ssize_t got = read(reading->file, reading->in, sizeof reading->in);
    *len = 0;
    if (got < 0)
        return lh_error_set(error, LH_IO, "the file cannot be read");
    *len = (size_t)got;
    return lh__sql_is_interrupted(reading->session, error) ? LH_CLOSED : LH_OK;
}

static enum lh_status tell_cut(struct lh_error *error, const char *name)
{
    return lh_error_set(error, LH_INVALID_DATA, "the %s file is cut off", name);
}

/* ---- as it is ---- */

static enum lh_status read_plain(struct reading *reading, struct lh_error *error)
{
    enum lh_status status;
    size_t len;
    while ((status = read_block(reading, &len, error)) == LH_OK && len > 0 &&
           !reading->taker->is_enough) {
        status = take(reading, reading->in, len, error);
        if (status != LH_OK)
            return status;
    }
    return status;
}

/* ---- gzip (RFC 1952): members one behind another, each with its length and CRC ---- */

static enum lh_status inflate_block(struct reading *reading, z_stream *stream, bool *is_in_member,
                                    struct lh_error *error)
{
    while (stream->avail_in > 0) {
        if (!*is_in_member && inflateReset(stream) != Z_OK)
            return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory to inflate");
        *is_in_member = true;
        do {
            stream->next_out = (unsigned char *)reading->out;
            stream->avail_out = sizeof reading->out;
            int result = inflate(stream, Z_NO_FLUSH);
            if (result != Z_OK && result != Z_BUF_ERROR && result != Z_STREAM_END)
                return lh_error_set(error, LH_INVALID_DATA, "not gzip: %.100s",
                                    stream->msg != NULL ? stream->msg : "its data is damaged");
            enum lh_status status =
                take(reading, reading->out, sizeof reading->out - stream->avail_out, error);
            if (status != LH_OK)
                return status;
            *is_in_member = result != Z_STREAM_END;
        } while (*is_in_member && stream->avail_out == 0);
    }
    return LH_OK;
}

static enum lh_status read_gzip(struct reading *reading, struct lh_error *error)
{
    z_stream stream = {0};
    bool is_in_member = false;
    enum lh_status status;
    size_t len;
    if (inflateInit2(&stream, 15 + 16) != Z_OK)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory to inflate");
    while ((status = read_block(reading, &len, error)) == LH_OK && len > 0) {
        stream.next_in = (unsigned char *)reading->in;
        stream.avail_in = (unsigned)len;
        status = inflate_block(reading, &stream, &is_in_member, error);
        if (status != LH_OK)
            break;
    }
    if (status == LH_OK && is_in_member)
        status = tell_cut(error, "gzip");
    inflateEnd(&stream);
    return status;
}

/* ---- zstd (RFC 8878): frames one behind another ---- */

static enum lh_status decompress_block(struct reading *reading, ZSTD_DCtx *context, size_t len,
                                       size_t *wanted, struct lh_error *error)
{
    ZSTD_inBuffer in = {reading->in, len, 0};
    ZSTD_outBuffer out;
    do {
        out = (ZSTD_outBuffer){reading->out, sizeof reading->out, 0};
        *wanted = ZSTD_decompressStream(context, &out, &in);
        if (ZSTD_isError(*wanted))
            return lh_error_set(error, LH_INVALID_DATA, "not zstd: %.100s",
                                ZSTD_getErrorName(*wanted));
        enum lh_status status = take(reading, reading->out, out.pos, error);
        if (status != LH_OK)
            return status;
    } while (in.pos < in.size || (*wanted != 0 && out.pos == out.size)); /* 0: a frame has ended */
    return LH_OK;
}

static enum lh_status read_zstd(struct reading *reading, struct lh_error *error)
{
    ZSTD_DCtx *context = ZSTD_createDCtx();
    enum lh_status status;
    size_t len, wanted = 0;
    if (context == NULL)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory to decompress");
    while ((status = read_block(reading, &len, error)) == LH_OK && len > 0) {
        status = decompress_block(reading, context, len, &wanted, error);
        if (status != LH_OK)
            break;
    }
    if (status == LH_OK && wanted != 0)
        status = tell_cut(error, "zstd");
    ZSTD_freeDCtx(context);
    return status;
}

enum lh_status lh__ingest_read_text(const struct lh_ingest *ingest, struct lh__ingest_taker *taker,
                                    struct lh_error *error)
{
    struct reading *reading = malloc(sizeof *reading);
    if (reading == NULL)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory to read the file");
    reading->session = ingest->session;
    reading->taker = taker;
    reading->file = open(ingest->source->path, O_RDONLY | O_CLOEXEC);
    enum lh_status status = LH_OK;
    if (reading->file < 0)
        status = lh_error_set(error, LH_IO, "the file cannot be read");
    else if (ingest->compression == LH_INGEST_GZIP)
        status = read_gzip(reading, error);
    else if (ingest->compression == LH_INGEST_ZSTD)
        status = read_zstd(reading, error);
    else
        status = read_plain(reading, error);
    if (reading->file >= 0)
        close(reading->file);
    free(reading);
    return status;
}
