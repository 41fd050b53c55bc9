/* Manifests as Parquet files: written and read by a small DuckDB of the catalog's own.
 *
 * One row an object; docs/FORMAT.md has the columns. The files are on their way from or to the
 * object store: each is in the folder for a moment. One thread at a time. */
#ifndef LH_ACTORS_CATALOG_FILES_H
#define LH_ACTORS_CATALOG_FILES_H

#include "actors/manifest.h"
#include "sql/sql.h"
#include <limits.h>

struct lh_catalog_files {
    struct lh_sql *sql;
    struct lh_sql_session *session; /* opened by the first call that needs it */
    char folder[PATH_MAX];          /* with a slash at its end */
    uint64_t made;                  /* files so far: no name is used twice */
};

/* `folder` is there, and the files' alone. LH_NOT_IMPLEMENTED in a build without DuckDB,
 * LH_OUT_OF_MEMORY. */
LH_MUST_USE enum lh_status lh_catalog_files_init(struct lh_catalog_files *files, const char *folder,
                                                 struct lh_error *error);
void lh_catalog_files_deinit(struct lh_catalog_files *files);

/* Appends the bytes of the manifest's file. LH_NO_SPACE, LH_IO, LH_OUT_OF_MEMORY. */
LH_MUST_USE enum lh_status lh_catalog_files_write(struct lh_catalog_files *files,
                                                  const struct lh_manifest *manifest,
                                                  struct lh_buf *bytes, struct lh_error *error);

/* One file to read, and what it was. */
struct lh_catalog_file {
    struct lh_str name; /* of the dataset that it must be */
    uint64_t version;
    struct lh_buf bytes;
    struct lh_manifest *manifest; /* NULL: it is broken, for `error` */
    struct lh_error error;        /* LH_CORRUPT */
};

#define LH_CATALOG_FILES_BATCH 256u /* read by one statement */

/* Reads up to LH_CATALOG_FILES_BATCH files; frees their bytes. Anything but LH_OK is no fault of
 * theirs: LH_NO_SPACE, LH_IO, LH_OUT_OF_MEMORY. */
LH_MUST_USE enum lh_status lh_catalog_files_read(struct lh_catalog_files *files,
                                                 struct lh_catalog_file *list, uint32_t count,
                                                 struct lh_error *error);

#endif
