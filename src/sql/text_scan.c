/* Bytes of texts. Any thread; no DuckDB.
 *
 * A scan looks for the first and the last line end of a piece only: a line inside a piece is
 * shorter than a piece, and pieces are shorter than the longest line that is allowed. */
#include "sql/text_scan.h"

#include "base/limits.h"
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define BLOCK_BYTES (256u << 10)

static void look_for_long_line(struct lh_text_scan *scan, struct lh_str piece)
{
    const char *first = memchr(piece.ptr, '\n', piece.len);
    if (first == NULL) /* lines may end in CR alone */
        first = memchr(piece.ptr, '\r', piece.len);
    size_t ends = first != NULL ? (size_t)(first - piece.ptr) : piece.len;
    if (scan->long_at == LH_TEXT_NOWHERE &&
        scan->bytes + ends - scan->line_start > LH_INGEST_LINE_BYTES_MAX)
        scan->long_at = scan->line_start;
    if (first == NULL)
        return;
    const char *last = memrchr(piece.ptr, *first, piece.len);
    scan->line_start = scan->bytes + (uint64_t)(last - piece.ptr) + 1;
}

void lh_text_scan_add(struct lh_text_scan *scan, struct lh_str piece)
{
    while (piece.len > 0) {
        struct lh_str block = {piece.ptr, piece.len < BLOCK_BYTES ? piece.len : BLOCK_BYTES};
        const char *nul = memchr(block.ptr, '\0', block.len);
        if (nul != NULL && scan->nul_at == LH_TEXT_NOWHERE)
            scan->nul_at = scan->bytes + (uint64_t)(nul - block.ptr);
        look_for_long_line(scan, block);
        scan->bytes += block.len;
        piece = (struct lh_str){piece.ptr + block.len, piece.len - block.len};
    }
}

/* ---- places ---- */

struct reader {
    int file;
    uint64_t offset; /* of the block */
    size_t len;
    char *block;
};

static bool open_reader(struct reader *reader, const char *path)
{
    *reader = (struct reader){.file = open(path, O_RDONLY | O_CLOEXEC)};
    if (reader->file < 0)
        return false;
    reader->block = malloc(BLOCK_BYTES);
    if (reader->block == NULL)
        close(reader->file);
    return reader->block != NULL;
}

/* The next block; `kept` bytes of this one's end come before it. False at the file's end. */
static bool next_block(struct reader *reader, size_t kept)
{
    uint64_t at = reader->offset + reader->len;
    memmove(reader->block, reader->block + reader->len - kept, kept);
    ssize_t got = pread(reader->file, reader->block + kept, BLOCK_BYTES - kept, (off_t)at);
    if (got <= 0)
        return false;
    reader->offset = at - kept;
    reader->len = kept + (size_t)got;
    return true;
}

static void close_reader(struct reader *reader)
{
    close(reader->file);
    free(reader->block);
}

static void show_line(const struct reader *reader, uint64_t start, struct lh_text_place *place)
{
    ssize_t got = pread(reader->file, place->text, LH_TEXT_SHOWN_BYTES, (off_t)start);
    size_t len = got > 0 ? (size_t)got : 0;
    for (size_t i = 0; i < len; i++) {
        if (place->text[i] == '\n' || place->text[i] == '\r')
            len = i;
        else if (place->text[i] == '\0')
            place->text[i] = '?';
    }
    place->text[len] = '\0';
}

bool lh_text_place_of(const char *path, uint64_t offset, struct lh_text_place *place)
{
    struct reader reader;
    uint64_t start = 0;
    *place = (struct lh_text_place){.line = 1};
    if (!open_reader(&reader, path))
        return false;
    while (next_block(&reader, 0) && reader.offset < offset) {
        const char *at = reader.block;
        size_t left = reader.len;
        if (left > offset - reader.offset)
            left = offset - reader.offset;
        const char *end = at + left, *newline;
        while ((newline = memchr(at, '\n', (size_t)(end - at))) != NULL) {
            place->line++;
            at = newline + 1;
            start = reader.offset + (uint64_t)(at - reader.block);
        }
    }
    place->byte = offset - start + 1;
    show_line(&reader, start, place);
    close_reader(&reader);
    return true;
}

uint64_t lh_text_line_of_record(const char *path, uint64_t record, char quote)
{
    struct reader reader;
    uint64_t line = 1, records = 1;
    bool is_quoted = false;
    if (!open_reader(&reader, path))
        return 0;
    while (records < record && next_block(&reader, 0)) {
        for (size_t i = 0; i < reader.len && records < record; i++) {
            char c = reader.block[i];
            if (quote != '\0' && c == quote)
                is_quoted = !is_quoted; /* a doubled one: out and in again */
            if (c != '\n')
                continue;
            line++;
            records += !is_quoted;
        }
    }
    close_reader(&reader);
    return line;
}

bool lh_text_place_of_object(const char *path, uint64_t record, struct lh_text_place *place)
{
    struct reader reader;
    uint64_t records = 0, found = LH_TEXT_NOWHERE;
    bool is_blank = true; /* the line so far */
    if (!open_reader(&reader, path))
        return false;
    while (found == LH_TEXT_NOWHERE && next_block(&reader, 0)) {
        for (size_t i = 0; i < reader.len && found == LH_TEXT_NOWHERE; i++) {
            char c = reader.block[i];
            if (c == '\n') {
                is_blank = true;
            } else if (is_blank && c != ' ' && c != '\t' && c != '\r') {
                is_blank = false;
                if (++records == record)
                    found = reader.offset + i;
            }
        }
    }
    close_reader(&reader);
    return found != LH_TEXT_NOWHERE && lh_text_place_of(path, found, place);
}

enum csv_at { AT_START, IN_PLAIN, IN_QUOTES, BEHIND_QUOTE };

static enum csv_at next_at(enum csv_at at, char c, char delim, char quote)
{
    if (at == IN_QUOTES)
        return c == quote ? BEHIND_QUOTE : IN_QUOTES;
    if (c == delim || c == '\n')
        return AT_START;
    if (quote != '\0' && c == quote && (at != IN_PLAIN || delim == '\0'))
        return IN_QUOTES; /* a value's first, or a doubled one */
    return IN_PLAIN;
}

uint64_t lh_text_find_not_csv(const char *path, char delim, char quote, const char **what)
{
    struct reader reader;
    uint64_t found = LH_TEXT_NOWHERE;
    enum csv_at at = AT_START;
    char before = '\0';
    int has_return = -1; /* of the first line; not known yet */
    *what = "";
    if (!open_reader(&reader, path))
        return found;
    while (found == LH_TEXT_NOWHERE && next_block(&reader, 0)) {
        for (size_t i = 0; i < reader.len && found == LH_TEXT_NOWHERE; i++) {
            char c = reader.block[i];
            enum csv_at next = next_at(at, c, delim, quote);
            if (delim != '\0' && at == BEHIND_QUOTE && next == IN_PLAIN && c != '\r') {
                *what = "text behind a closing quote";
                found = reader.offset + i;
            } else if (c == '\n' && at != IN_QUOTES) {
                *what = "the line does not end as those before it";
                if (has_return >= 0 && has_return != (before == '\r'))
                    found = reader.offset + i;
                has_return = before == '\r';
            }
            before = c;
            at = next;
        }
    }
    close_reader(&reader);
    return found;
}

/* ---- quotes that are not closed ---- */

void lh_text_quotes_begin(struct lh_text_quotes *quotes, char delim, char quote)
{
    *quotes = (struct lh_text_quotes){.delim = delim, .quote = quote, .line = 1, .at = AT_START};
}

static void end_line(struct lh_text_quotes *quotes)
{
    if (quotes->opened.line == quotes->line) {
        memcpy(quotes->opened.text, quotes->text, quotes->text_len);
        quotes->opened.text[quotes->text_len] = '\0';
    }
    quotes->line++;
    quotes->byte = 0;
    quotes->text_len = 0;
}

bool lh_text_quotes_add(struct lh_text_quotes *quotes, struct lh_str piece)
{
    for (size_t i = 0; i < piece.len; i++) {
        char c = piece.ptr[i];
        enum csv_at before = quotes->at, at = next_at(before, c, quotes->delim, quotes->quote);
        if (before == BEHIND_QUOTE && at == IN_PLAIN && c != '\r')
            return false;
        quotes->at = at;
        quotes->byte++;
        if (before == AT_START && at == IN_QUOTES)
            quotes->opened = (struct lh_text_place){.line = quotes->line, .byte = quotes->byte};
        if (c == '\n')
            end_line(quotes);
        else if (quotes->byte <= LH_TEXT_SHOWN_BYTES && c != '\r')
            quotes->text[quotes->text_len++] = c != '\0' ? c : '?';
    }
    return true;
}

bool lh_text_quotes_end(struct lh_text_quotes *quotes, struct lh_text_place *place)
{
    end_line(quotes);
    *place = quotes->opened;
    return quotes->at == IN_QUOTES;
}

uint64_t lh_text_find_not_utf8(const char *path)
{
    struct reader reader;
    uint64_t found = LH_TEXT_NOWHERE;
    size_t kept = 0;
    if (!open_reader(&reader, path))
        return found;
    while (found == LH_TEXT_NOWHERE && next_block(&reader, kept)) {
        size_t i = 0;
        while (i < reader.len) {
            struct lh_str rest = {reader.block + i, reader.len - i};
            size_t len = lh_str_utf8_length(rest);
            if (len == 0)
                break;
            i += len;
        }
        kept = reader.len - i;
        if (kept > 3) /* no character goes on that far */
            found = reader.offset + i;
    }
    if (found == LH_TEXT_NOWHERE && kept > 0)
        found = reader.offset + reader.len - kept;
    close_reader(&reader);
    return found;
}
