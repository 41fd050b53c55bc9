/* The datasets that statements name, as views over files in a cache. */
#ifndef LH_ACTORS_QUERY_TABLES_H
#define LH_ACTORS_QUERY_TABLES_H

#include "actors/catalog_client.h"
#include "actors/object_client.h"
#include "actors/query.h"
#include "base/metrics.h"
#include "sql/sql.h"

struct lh_query_tables_options {
    struct lh_catalog_client_options
        catalog; /* neither here nor elsewhere: there are no datasets */
    struct lh_object_client_options objects;
    const char *folder;   /* of cached files, with a slash at its end; it exists */
    uint64_t cache_bytes; /* that it may hold; those in use may be more */
};

struct lh_query_view;

struct lh_query_tables {
    struct lh_query_tables_options options;
    struct lh_catalog_client *catalog; /* NULL: there are no datasets */
    struct lh_object_client *objects;
    struct lh_sql_session *session;
    const struct lh_reach *reach; /* of the statement that runs */
    struct lh_query_view *views;  /* that the session has */
    uint64_t statement;           /* number of the one that runs */
    struct lh_error error;        /* why a table could not be had, if it is not just unknown */
    struct lh_counter downloads;
    struct lh_counter downloaded_bytes;
};

/* LH_OUT_OF_MEMORY. */
LH_MUST_USE enum lh_status lh_query_tables_init(struct lh_query_tables *tables,
                                                const struct lh_query_tables_options *options,
                                                struct lh_error *error);
/* When the threads of catalog and store have ended. */
void lh_query_tables_deinit(struct lh_query_tables *tables);

/* A statement begins, of a caller with this reach. */
void lh_query_tables_begin(struct lh_query_tables *tables, const struct lh_reach *reach);

/* For the gate; `arg` is the tables. Makes a view of the name, "people" or "people@2", over the
 * objects of that version, which are fetched if they are not here. False: there is none, or
 * `error` says why not. */
bool lh_query_tables_find(struct lh_str name, void *arg);

/* What tables there are: {"tables": [...], "next_cursor"?}, as the catalog lists datasets and as
 * far as the caller reaches. The query has prefix, cursor and limit. */
LH_MUST_USE enum lh_status lh_query_tables_list(struct lh_query_tables *tables,
                                                const struct lh_query *query, struct lh_buf *out,
                                                struct lh_error *error);
/* What one is: {"name", "version", "columns": [{"name", "type"}], "row_count"?, "bytes", ...}. */
LH_MUST_USE enum lh_status lh_query_tables_describe(struct lh_query_tables *tables,
                                                    const struct lh_query *query,
                                                    struct lh_buf *out, struct lh_error *error);

/* "people@2": the version, or 0, and the name without it. False: behind @ stands no version. */
bool lh_query_tables_split(struct lh_str *name, uint64_t *version);

/* Whether a caller may read the dataset: as its objects, datasets/<name>/... */
bool lh_query_tables_allows(const struct lh_reach *reach, struct lh_str name);

#endif
