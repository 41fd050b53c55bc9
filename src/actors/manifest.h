/* Manifests: what a dataset is at one version, as the catalog keeps it and as others ask for it.
 *
 * A manifest never changes; another registration makes another version. It is one allocation with
 * all its text, and whoever holds it frees it. */
#ifndef LH_ACTORS_MANIFEST_H
#define LH_ACTORS_MANIFEST_H

#include "base/buf.h"
#include "base/limits.h"
#include "ext/json_read.h"
#include <stdbool.h>
#include <stdint.h>

#define LH_DATASET_ID_BYTES 36u

struct lh_manifest_object {
    struct lh_str key; /* in the object store */
    uint64_t size;
    struct lh_str fingerprint; /* of the registration that brought it */
};

/* Its strings have a NUL behind them. */
struct lh_manifest {
    char dataset_id[LH_DATASET_ID_BYTES + 1]; /* UUIDv5 of the name */
    struct lh_str name;
    struct lh_str fingerprint; /* of the registration that made this version */
    uint64_t version;          /* from 1 */
    struct lh_manifest_object *objects;
    uint32_t count;            /* of objects: at least one */
    struct lh_str schema_json; /* [{"name": ..., "type": ...}, ...]; empty: not known */
    bool has_row_count;
    uint64_t row_count;
    uint64_t created_ms; /* wall clock, since 1970 */
};

/* A dataset's name is as an index's: [A-Za-z0-9][A-Za-z0-9._-]{0,127}. */
bool lh_dataset_name_is_valid(struct lh_str name);

/* The id that a name has on every host: UUIDv5 under this catalog's namespace. */
void lh_dataset_id(struct lh_str name, char id[LH_DATASET_ID_BYTES + 1]);

/* Copies what `shape` describes into one allocation. NULL when there is no memory. */
struct lh_manifest *lh_manifest_create(const struct lh_manifest *shape);
void lh_manifest_destroy(struct lh_manifest *manifest);

/* Finds a key that two objects have: the number of both, or `count` when there is none.
 * LH_OUT_OF_MEMORY. */
LH_MUST_USE enum lh_status lh_manifest_find_repeated(struct lh_manifest_object *objects,
                                                     uint32_t count, uint32_t *first,
                                                     uint32_t *again);

/* As it is answered: {"dataset_id", "name", "fingerprint", "version", "objects": [{"key", "size"}],
 * "schema"?, "row_count"?, "created_at"}. An object of an older version that was appended to has
 * its own "fingerprint" besides. */
void lh_manifest_append_json(const struct lh_manifest *manifest, struct lh_buf *out);

/* Reads what the function above has written. LH_INVALID_JSON, LH_INVALID_ARGUMENT with the place,
 * LH_OUT_OF_MEMORY. */
LH_MUST_USE enum lh_status lh_manifest_read(struct lh_str text, struct lh_manifest **manifest,
                                            struct lh_error *error);

/* How a registration meets a dataset that is there. */
enum lh_register_mode {
    LH_REGISTER_CREATE,  /* another fingerprint is a conflict */
    LH_REGISTER_REPLACE, /* a new version, of these objects */
    LH_REGISTER_APPEND   /* a new version, of the last one's objects and these */
};

const char *lh_register_mode_name(enum lh_register_mode mode);

/* Reads the body of a registration: {"name", "fingerprint", "objects", "schema"?, "row_count"?,
 * "mode"?}. Version and time are 0 in the manifest. LH_INVALID_JSON, LH_INVALID_ARGUMENT and
 * LH_LIMIT_EXCEEDED with the place, LH_OUT_OF_MEMORY. */
LH_MUST_USE enum lh_status lh_registration_read(struct lh_str text, struct lh_manifest **manifest,
                                                enum lh_register_mode *mode,
                                                struct lh_error *error);
void lh_registration_append_json(const struct lh_manifest *manifest, enum lh_register_mode mode,
                                 struct lh_buf *out);

/* Whether two schemas agree; LH_SCHEMA_CONFLICT names the column that differs. One that is not
 * known agrees with any. */
LH_MUST_USE enum lh_status lh_schema_compare(struct lh_str have, struct lh_str wanted,
                                             struct lh_error *error);

/* Milliseconds since 1970 as "2026-03-01T12:00:00.000Z", and back. */
void lh_append_time(struct lh_buf *out, uint64_t ms);
bool lh_read_time(struct lh_str text, uint64_t *ms);

#endif
