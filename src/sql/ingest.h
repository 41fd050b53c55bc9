/* Ingest: a file in, a Parquet file out. CSV of any dialect, JSON, NDJSON and Parquet, as they are
 * or compressed.
 *
 * An ingest belongs to one thread, which blocks in it; it runs one file at a time, on an instance
 * whose folder holds the files. Without DuckDB every call that can fail returns LH_NOT_IMPLEMENTED.
 */
#ifndef LH_SQL_INGEST_H
#define LH_SQL_INGEST_H

#include "sql/sql.h"
#include "sql/text_scan.h"

struct lh_ingest;

enum lh_ingest_format {
    LH_INGEST_ANY, /* what its first bytes look like */
    LH_INGEST_CSV,
    LH_INGEST_NDJSON,
    LH_INGEST_JSON, /* an array of objects, or objects one behind another */
    LH_INGEST_PARQUET
};

enum lh_ingest_compression {
    LH_INGEST_COMPRESSION_ANY, /* what its first bytes say */
    LH_INGEST_PLAIN,
    LH_INGEST_GZIP,
    LH_INGEST_ZSTD
};

enum lh_ingest_header { LH_INGEST_HEADER_ANY, LH_INGEST_HEADER_YES, LH_INGEST_HEADER_NO };

/* How to read CSV; what is NULL is found out. */
struct lh_ingest_dialect {
    const char *delim;   /* 1 to 4 bytes */
    const char *quote;   /* one byte, or "": no quotes */
    const char *escape;  /* one byte, or "" */
    const char *nullstr; /* what stands for NULL, beside nothing at all */
    const char *types;   /* {"column": "TYPE", ...} or ["TYPE", ...] as JSON */
    enum lh_ingest_header header;
};

struct lh_ingest_source {
    const char *path;
    enum lh_ingest_format format;
    enum lh_ingest_compression compression;
    struct lh_ingest_dialect dialect;
    const struct lh_text_scan *scan; /* of the file's bytes */
    uint64_t text_bytes_max;         /* of what is compressed in it; 0: any */
};

struct lh_ingest_target {
    const char *parquet;  /* zstd-compressed */
    const char *rejected; /* Parquet: the lines that could not be read, with why; NULL: the first of
                             them ends it */
};

struct lh_ingest_result {
    uint64_t rows;
    uint64_t rejected;     /* lines; 0: the file of them was not written */
    struct lh_buf columns; /* [{"name": ..., "type": ...}, ...] of the Parquet file */
    struct lh_buf rejected_columns;
};

LH_MUST_USE enum lh_status lh_ingest_create(struct lh_sql *sql, struct lh_ingest **ingest,
                                            struct lh_error *error);
void lh_ingest_destroy(struct lh_ingest *ingest);

/* LH_INVALID_DATA with line, column and text; LH_INVALID_ARGUMENT for an option; LH_CLOSED when it
 * was interrupted; LH_BODY_TOO_LARGE, LH_OUT_OF_MEMORY, LH_NO_SPACE, LH_IO. What it has written is
 * the caller's to remove. `result` is to be deinitialized whatever comes of it. */
LH_MUST_USE enum lh_status lh_ingest_run(struct lh_ingest *ingest,
                                         const struct lh_ingest_source *source,
                                         const struct lh_ingest_target *target,
                                         struct lh_ingest_result *result, struct lh_error *error);
void lh_ingest_result_deinit(struct lh_ingest_result *result);

/* Any thread: rows that have gone through since the file was begun. */
uint64_t lh_ingest_rows(const struct lh_ingest *ingest);

/* Any thread, while the ingest lives; as lh_sql_interrupt and lh_sql_resume, which also begins to
 * count rows anew, and lh_sql_rest. */
void lh_ingest_interrupt(struct lh_ingest *ingest);
void lh_ingest_resume(struct lh_ingest *ingest);
void lh_ingest_rest(struct lh_ingest *ingest);

#endif
