/* Keys of objects, and the names of their files.
 *
 * A key is a path: segments with '/' between. Its file lies in the root under the same path, so
 * that other programs find it there; only '%' is written as "%25". So a name on disk with any
 * other '%' is the store's own and no key's:
 *   a%      at the end of a name: the object `a`, while `a` is a folder (aside)
 *   %tmp    folder of uploads that are not complete
 *   %lock   the lock of the server that has the root */
#ifndef LH_STORE_OBJECT_KEY_H
#define LH_STORE_OBJECT_KEY_H

#include "base/limits.h"
#include "base/status.h"
#include "base/str.h"
#include <stdbool.h>

#define LH_OBJECT_TEMP_FOLDER "%tmp"
#define LH_OBJECT_LOCK_FILE   "%lock"

/* Every byte escaped, "%" behind it, and its NUL. */
#define LH_OBJECT_PATH_BYTES (3u * LH_OBJECT_KEY_BYTES_MAX + 2u)

/* LH_INVALID_ARGUMENT or LH_LIMIT_EXCEEDED, with the place. */
LH_MUST_USE enum lh_status lh_object_key_check(struct lh_str key, struct lh_error *error);

/* The path of a key that was checked; its length. */
size_t lh_object_key_path(struct lh_str key, char path[LH_OBJECT_PATH_BYTES]);

/* The key's part that a name on disk stands for; its length, and 0 for a name that is no key's.
 * A folder's name is never aside. `part` has room for as many bytes as `name`. */
size_t lh_object_key_of_name(struct lh_str name, char *part, bool *is_aside);

#endif
