/* The files that queries read: objects of datasets, kept by what is in them. */
#ifndef LH_ACTORS_QUERY_CACHE_H
#define LH_ACTORS_QUERY_CACHE_H

#include "actors/manifest.h"
#include "actors/object_client.h"
#include <limits.h>

/* What a file is called before it is whole. */
#define LH_QUERY_PARTIAL ".partial-"

/* Where the object's file is or would be: <folder><hash>.parquet. */
void lh_query_cache_path(const char *folder, const struct lh_manifest_object *object,
                         char path[PATH_MAX]);

/* Makes sure that the file is there, and notes that it is in use. Before a download, files that
 * nobody has used for some minutes make room, the oldest first. LH_OBJECT_MISMATCH: the object is
 * not of the size that its dataset says; LH_NO_SPACE, LH_IO, and what the store says. */
LH_MUST_USE enum lh_status lh_query_cache_fetch(const char *folder, uint64_t bytes_max,
                                                struct lh_object_client *objects,
                                                const struct lh_manifest_object *object,
                                                bool *is_fetched, struct lh_error *error);

/* Removes what downloads of an earlier start have left unfinished. */
void lh_query_cache_clean(const char *folder);

#endif
