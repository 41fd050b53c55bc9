/* What is wrong with the bytes of a text before anyone reads its lines: NUL, and lines without end.
 *
 * A scan takes a file as it arrives, in pieces of any size, at the speed of memory. Where in the
 * file something is, is looked up only when it is to be told. */
#ifndef LH_SQL_TEXT_SCAN_H
#define LH_SQL_TEXT_SCAN_H

#include "base/status.h"
#include "base/str.h"

#define LH_TEXT_NOWHERE UINT64_MAX

/* All zeros but for these: LH_TEXT_SCAN_EMPTY. */
struct lh_text_scan {
    uint64_t bytes;      /* so far */
    uint64_t nul_at;     /* the first NUL; LH_TEXT_NOWHERE: there is none */
    uint64_t long_at;    /* where the first line longer than LH_INGEST_LINE_BYTES_MAX begins */
    uint64_t line_start; /* of the line that has not ended */
};

/* clang-format off */
#define LH_TEXT_SCAN_EMPTY {.nul_at = LH_TEXT_NOWHERE, .long_at = LH_TEXT_NOWHERE}
/* clang-format on */

void lh_text_scan_add(struct lh_text_scan *scan, struct lh_str piece);

/* ---- places in a file, for errors ---- */

#define LH_TEXT_SHOWN_BYTES 60u /* of a line, in an error */

struct lh_text_place {
    uint64_t line; /* from 1 */
    uint64_t byte; /* in it, from 1 */
    char text[LH_TEXT_SHOWN_BYTES + 1];
};

/* The line that `offset` lies in, and its beginning. False when the file cannot be read. */
bool lh_text_place_of(const char *path, uint64_t offset, struct lh_text_place *place);

/* The line on which a record of CSV begins, both from 1: values in quotes may hold newlines.
 * `quote` 0: there are none. 0 when the file cannot be read. */
uint64_t lh_text_line_of_record(const char *path, uint64_t record, char quote);

/* The same of NDJSON, where lines of white space are no records. */
bool lh_text_place_of_object(const char *path, uint64_t record, struct lh_text_place *place);

/* Where CSV is first not as RFC 4180 has it: text behind a closing quote, or a line that ends in
 * another way than the first. `what` says which. LH_TEXT_NOWHERE: all of it is. `delim` 0: it is
 * not known, and lines are looked at alone. */
uint64_t lh_text_find_not_csv(const char *path, char delim, char quote, const char **what);

/* Where the first byte is that is not part of well-formed UTF-8; LH_TEXT_NOWHERE: all are. */
uint64_t lh_text_find_not_utf8(const char *path);

/* ---- quotes that are not closed ---- */

/* Looks for them as a text comes, in pieces of any size. */
struct lh_text_quotes {
    char delim;
    char quote;
    unsigned at; /* in a value; text_scan.c */
    uint64_t line;
    uint64_t byte; /* of it so far */
    char text[LH_TEXT_SHOWN_BYTES];
    size_t text_len;
    struct lh_text_place opened; /* the last value with a quote */
};

void lh_text_quotes_begin(struct lh_text_quotes *quotes, char delim, char quote);
/* False: there is text behind a closing quote, so quotes may be characters as others are. */
bool lh_text_quotes_add(struct lh_text_quotes *quotes, struct lh_str piece);
/* At the text's end. True: the value that begins at `place` is not closed. */
bool lh_text_quotes_end(struct lh_text_quotes *quotes, struct lh_text_place *place);

#endif
