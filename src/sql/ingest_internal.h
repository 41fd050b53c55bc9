/* Between the files of ingest. */
#ifndef LH_SQL_INGEST_INTERNAL_H
#define LH_SQL_INGEST_INTERNAL_H

#include "sql/ingest.h"
#include "sql/sql_internal.h"

struct lh_ingest {
    struct lh_sql_session *session;
    struct lh_counter rows;
    char counter[40]; /* the SQL function that counts them */

    /* of the file at hand */
    const struct lh_ingest_source *source;
    enum lh_ingest_format format;
    enum lh_ingest_compression compression;
    char delim;          /* of the CSV */
    char quote;          /* 0: none */
    char line_end;       /* its last character */
    bool has_open_quote; /* to the file's end; the CSV was sniffed as if quotes were text */
    struct lh_text_place open_quote;
};

/* Runs a statement; what DuckDB has against it is told in terms of the file. The result is to be
 * destroyed when this returns LH_OK. */
LH_MUST_USE enum lh_status lh__ingest_query(struct lh_ingest *ingest, const struct lh_buf *text,
                                            duckdb_result *result, struct lh_error *error);
/* The same for what has no rows. */
LH_MUST_USE enum lh_status lh__ingest_execute(struct lh_ingest *ingest, const struct lh_buf *text,
                                              struct lh_error *error);

/* The rows of a result whose columns are all VARCHAR. */
struct lh__ingest_rows {
    duckdb_result *result;
    duckdb_data_chunk chunk;
    uint64_t at;
    uint64_t taken;
    bool is_over;
};
/* The next row's cells, which live until the next call; NULL has no pointer. False: the end, or
 * DuckDB has failed to give the rest, which lh__ingest_close tells apart. */
bool lh__ingest_next(struct lh__ingest_rows *rows, struct lh_str *cells, uint32_t count);
/* Destroys the result. Returns `status`, or LH_IO when rows are missing. */
LH_MUST_USE enum lh_status lh__ingest_close(struct lh__ingest_rows *rows, enum lh_status status,
                                            struct lh_error *error);

/* Puts DuckDB's reason into `error`, with the place in the file where it gives one. */
enum lh_status lh__ingest_error(const struct lh_ingest *ingest, const char *text,
                                struct lh_error *error);
/* Where the value begins whose quote is not closed, which also what is compressed is looked through
 * for. `*is_open` false: there is none. */
LH_MUST_USE enum lh_status lh__ingest_find_open_quote(const struct lh_ingest *ingest, char delim,
                                                      char quote, bool *is_open,
                                                      struct lh_text_place *place,
                                                      struct lh_error *error);
/* Returns LH_INVALID_DATA. */
enum lh_status lh__ingest_tell_open_quote(const struct lh_text_place *place,
                                          struct lh_error *error);

/* Of a line that is too long. Returns LH_INVALID_DATA. */
enum lh_status lh__ingest_tell_long_line(const struct lh_text_place *place, struct lh_error *error);

/* Who wants the text of a file. */
struct lh__ingest_taker {
    LH_MUST_USE enum lh_status (*take)(struct lh__ingest_taker *taker, struct lh_str text,
                                       struct lh_error *error);
    bool is_enough; /* what is not compressed need not be read to its end */
};
/* Gives the file's text to `taker`, block by block. LH_INVALID_DATA: it was compressed, and is not
 * all there; LH_CLOSED, LH_IO, LH_OUT_OF_MEMORY; and what `take` returns. */
LH_MUST_USE enum lh_status lh__ingest_read_text(const struct lh_ingest *ingest,
                                                struct lh__ingest_taker *taker,
                                                struct lh_error *error);

/* Whether a compressed file is all there, it and its lines of CSV are not too large, and JSON is
 * not too deep. LH_INVALID_DATA, LH_BODY_TOO_LARGE. */
LH_MUST_USE enum lh_status lh__ingest_check_whole(const struct lh_ingest *ingest,
                                                  struct lh_error *error);

/* Finds out how the CSV is to be read, and appends the call of read_csv that does. With
 * `is_tolerant`, bad lines come into the table reject_errors and the rest is read. */
LH_MUST_USE enum lh_status lh__ingest_read_csv(struct lh_ingest *ingest, bool is_tolerant,
                                               struct lh_buf *out, struct lh_error *error);

/* The first line, as it is. LH_OK with an empty one: the file is empty. */
LH_MUST_USE enum lh_status lh__ingest_first_line(struct lh_ingest *ingest, struct lh_buf *line,
                                                 struct lh_error *error);

/* How many lines were put aside; the place of each comes into the table reject_lines. */
LH_MUST_USE enum lh_status lh__ingest_number_rejected(struct lh_ingest *ingest, uint64_t *count,
                                                      struct lh_error *error);
/* The SELECT of them, once they are numbered. */
void lh__ingest_append_rejected(struct lh_buf *out);
LH_MUST_USE enum lh_status lh__ingest_drop_rejected(struct lh_ingest *ingest,
                                                    struct lh_error *error);

void lh__ingest_append_option(struct lh_buf *out, const char *name, struct lh_str value);
void lh__ingest_append_compression(const struct lh_ingest *ingest, struct lh_buf *out);

#endif
