/* Opening a file and handing out its rows. Called by one thread at a time: import holds a lock.
 *
 * Only the rows that are handed out are in memory. */
#include "source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME_SHOWN_MAX 60u

/* A path as it stands in an error, which has little room: a long one without its folders. */
static const char *short_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return strlen(path) > NAME_SHOWN_MAX && slash != NULL ? slash + 1 : path;
}

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text), end_len = strlen(end);
    return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

static enum lh_status choose_format(struct lh_source *source, const char *format,
                                    struct lh_error *error)
{
    static const struct {
        const char *name, *end;
        enum lh_source_format format;
    } known[] = {
        {"fbin", ".fbin", LH_SOURCE_FBIN},
        {"npy", ".npy", LH_SOURCE_NPY},
        {"ndjson", ".ndjson", LH_SOURCE_NDJSON},
        {"ndjson", ".jsonl", LH_SOURCE_NDJSON},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (format != NULL ? strcmp(format, known[i].name) == 0
                           : ends_with(source->path, known[i].end)) {
            source->format = known[i].format;
            return LH_OK;
        }
    }
    return lh_error_set(error, LH_INVALID_ARGUMENT,
                        "%.80s: its name does not say what it is; add --format fbin, npy or ndjson",
                        source->name);
}

/* Counts the lines; one per row is needed, and a mistake is better told before the first add. */
static enum lh_status open_ids(struct lh_source *source, struct lh_error *error)
{
    char buffer[65536];
    uint64_t lines = 0;
    size_t len;
    char last = '\n';
    source->ids = fopen(source->ids_path, "re");
    if (source->ids == NULL)
        return lh_error_sys(error, LH_IO, errno, "%.80s", source->ids_name);
    while ((len = fread(buffer, 1, sizeof buffer, source->ids)) > 0) {
        for (const char *at = buffer; (at = memchr(at, '\n', (size_t)(buffer + len - at))); at++)
            lines++;
        last = buffer[len - 1];
    }
    if (ferror(source->ids))
        return lh_error_sys(error, LH_IO, errno, "%.80s", source->ids_name);
    lines += last != '\n';
    rewind(source->ids);
    if (lines != source->rows)
        return lh_error_set(error, LH_INVALID_ARGUMENT,
                            "%.60s has %ju lines, and %.60s %ju rows: one id a row is needed",
                            source->ids_name, (uintmax_t)lines, source->name,
                            (uintmax_t)source->rows);
    return LH_OK;
}

static enum lh_status read_header(struct lh_source *source, struct lh_error *error)
{
    if (source->format == LH_SOURCE_NDJSON) {
        if (source->ids_path != NULL)
            return lh_error_set(error, LH_INVALID_ARGUMENT,
                                "--ids: NDJSON lines bring their own ids");
        return lh_source_peek_ndjson(source, error);
    }
    if (source->bytes == 0)
        return lh_error_set(error, LH_INVALID_ARGUMENT,
                            "%.80s: is empty or no regular file; only ndjson can come by a pipe",
                            source->name);
    enum lh_status status = source->format == LH_SOURCE_FBIN ? lh_source_read_fbin(source, error)
                                                             : lh_source_read_npy(source, error);
    if (status == LH_OK && source->ids_path != NULL)
        status = open_ids(source, error);
    return status;
}

enum lh_status lh_source_open(struct lh_source *source, const char *path, const char *format,
                              const char *ids_path, struct lh_error *error)
{
    struct stat about;
    *source = (struct lh_source){.path = path, .ids_path = ids_path, .fd = -1};
    source->name = short_name(path);
    source->ids_name = ids_path != NULL ? short_name(ids_path) : NULL;
    enum lh_status status = choose_format(source, format, error);
    if (status != LH_OK)
        return status;
    source->fd = strcmp(path, "-") == 0 ? dup(0) : open(path, O_RDONLY | O_CLOEXEC);
    if (source->fd < 0 || fstat(source->fd, &about) != 0)
        return lh_error_sys(error, LH_IO, errno, "%.80s", source->name);
    if (S_ISDIR(about.st_mode))
        return lh_error_set(error, LH_INVALID_ARGUMENT, "%.80s: is a folder", source->name);
    source->bytes = S_ISREG(about.st_mode) ? (uint64_t)about.st_size : 0;
    return read_header(source, error);
}

void lh_source_close(struct lh_source *source)
{
    if (source->fd >= 0)
        close(source->fd);
    if (source->ids != NULL)
        fclose(source->ids);
    free(source->line);
    lh_buf_deinit(&source->carry);
    source->fd = -1;
}

void lh_piece_deinit(struct lh_piece *piece)
{
    free(piece->rows);
    lh_buf_deinit(&piece->ids);
    lh_buf_deinit(&piece->text);
}

static enum lh_status read_id(struct lh_source *source, uint64_t row, struct lh_buf *ids,
                              struct lh_error *error)
{
    ssize_t len = getline(&source->line, &source->line_size, source->ids);
    if (len < 0)
        return lh_error_set(error, LH_IO, "%.80s: ended at line %ju while it was being read",
                            source->ids_name, (uintmax_t)row);
    struct lh_str id = {source->line, (size_t)len};
    if (id.len > 0 && id.ptr[id.len - 1] == '\n')
        id.len--;
    if (id.len > 0 && id.ptr[id.len - 1] == '\r')
        id.len--;
    if (id.len == 0 || id.len > LH_ID_BYTES_MAX)
        return lh_error_set(error, LH_INVALID_ARGUMENT,
                            "%.60s, line %ju: %zu bytes; an id is 1 to %u bytes", source->ids_name,
                            (uintmax_t)row + 1, id.len, LH_ID_BYTES_MAX);
    if (!lh_str_is_utf8(id))
        return lh_error_set(error, LH_INVALID_ARGUMENT, "%.60s, line %ju: is not UTF-8",
                            source->ids_name, (uintmax_t)row + 1);
    lh_buf_append_str(ids, id);
    lh_buf_append_char(ids, '\n');
    return LH_OK;
}

static enum lh_status read_rows(struct lh_source *source, struct lh_piece *piece,
                                struct lh_error *error)
{
    size_t row_bytes = source->dimension * sizeof(float);
    off_t at = source->rows_at + (off_t)(piece->first * row_bytes);
    char *out = (char *)piece->rows;
    for (size_t left = piece->count * row_bytes; left > 0;) {
        ssize_t got = pread(source->fd, out, left, at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return lh_error_sys(error, LH_IO, errno, "%.80s", source->name);
        if (got == 0)
            return lh_error_set(error, LH_IO, "%.80s: became shorter while it was being read",
                                source->name);
        out += got;
        at += got;
        left -= (size_t)got;
    }
    return LH_OK;
}

enum lh_status lh_source_next(struct lh_source *source, uint32_t max_rows, struct lh_piece *piece,
                              struct lh_error *error)
{
    if (source->format == LH_SOURCE_NDJSON)
        return lh_source_next_ndjson(source, max_rows, piece, error);
    uint64_t left = source->rows - source->next_row;
    piece->first = source->next_row;
    piece->count = left < max_rows ? (uint32_t)left : max_rows;
    piece->bytes = (uint64_t)piece->count * source->dimension * sizeof(float);
    piece->ids.len = 0;
    if (piece->rows == NULL)
        piece->rows = malloc((size_t)max_rows * source->dimension * sizeof(float));
    if (piece->rows == NULL)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for a batch");
    enum lh_status status = read_rows(source, piece, error);
    for (uint32_t i = 0; i < piece->count && status == LH_OK && source->ids != NULL; i++)
        status = read_id(source, piece->first + i, &piece->ids, error);
    if (status == LH_OK && lh_buf_failed(&piece->ids))
        status = lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory for a batch");
    source->next_row += piece->count;
    return status;
}
