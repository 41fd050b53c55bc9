/* The files that import reads: rows of float32 (fbin, npy) with their ids, or NDJSON lines. */
#ifndef LH_CLI_SOURCE_H
#define LH_CLI_SOURCE_H

#include "lakehouse.h"
#include <sys/types.h>

enum lh_source_format {
    LH_SOURCE_FBIN,
    LH_SOURCE_NPY,
    LH_SOURCE_NDJSON,
};

struct lh_source {
    const char *path;
    const char *name; /* the path, for errors */
    int fd;
    enum lh_source_format format;
    uint32_t dimension; /* 0: NDJSON whose first line has not been looked at */
    uint64_t rows;      /* 0 for NDJSON, which says it at its end */
    uint64_t bytes;     /* of the file; 0: a pipe */
    off_t rows_at;      /* where the first row begins */
    uint64_t next_row;  /* or line */
    const char *ids_path;
    const char *ids_name;
    FILE *ids; /* NULL: row numbers */
    char *line;
    size_t line_size;
    struct lh_buf carry; /* NDJSON that has been read and not handed out */
    size_t carry_at;
    bool at_end;
};

/* A run of rows, or of lines. */
struct lh_piece {
    uint64_t first; /* row from 0, or line from 1 */
    uint32_t count;
    uint64_t bytes;     /* that it took in the file */
    float *rows;        /* count x dimension */
    struct lh_buf ids;  /* one a line, empty without an ids file */
    struct lh_buf text; /* NDJSON, whole lines */
};

/* Opens the file, works out its format (NULL: from its name or its first bytes), and checks its
 * header against its size. Errors name the file and what would be right. For NDJSON, the dimension
 * is that of the first line. */
LH_MUST_USE enum lh_status lh_source_open(struct lh_source *source, const char *path,
                                          const char *format, const char *ids_path,
                                          struct lh_error *error);
void lh_source_close(struct lh_source *source);

/* Reads the next up to `max_rows` rows; count 0 at the end. */
LH_MUST_USE enum lh_status lh_source_next(struct lh_source *source, uint32_t max_rows,
                                          struct lh_piece *piece, struct lh_error *error);

void lh_piece_deinit(struct lh_piece *piece);

/* source_header.c: fills dimension, rows and rows_at. */
LH_MUST_USE enum lh_status lh_source_read_fbin(struct lh_source *source, struct lh_error *error);
LH_MUST_USE enum lh_status lh_source_read_npy(struct lh_source *source, struct lh_error *error);

/* ndjson.c */
LH_MUST_USE enum lh_status lh_source_peek_ndjson(struct lh_source *source, struct lh_error *error);
LH_MUST_USE enum lh_status lh_source_next_ndjson(struct lh_source *source, uint32_t max_lines,
                                                 struct lh_piece *piece, struct lh_error *error);

#endif
