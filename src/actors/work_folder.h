/* A folder for files that a service needs for a while: beside the vectors, or one that goes with
 * the server. */
#ifndef LH_ACTORS_WORK_FOLDER_H
#define LH_ACTORS_WORK_FOLDER_H

#include "base/config.h"
#include <limits.h>
#include <stdbool.h>

struct lh_work_folder {
    char path[PATH_MAX]; /* absolute, with a slash at its end; empty: there is none */
    bool is_temporary;   /* it goes with the server */
    int lock;            /* of the folder; where there is one */
};

/* Makes the folder that `key` names, where that is not NULL and not empty; else `name` in
 * vectord.data_dir; else, when vectors are not kept either, a temporary one. It
 * is this service's alone until its end. LH_CONFIG. */
LH_MUST_USE enum lh_status lh_work_folder_make(struct lh_work_folder *folder,
                                               const struct lh_config *config, const char *key,
                                               const char *name, struct lh_error *error);

/* Removes all that is in it. */
void lh_work_folder_empty(const struct lh_work_folder *folder);

/* The same of a folder in it, which a crash may have left full. */
void lh_work_folder_empty_below(const struct lh_work_folder *folder, const char *name);

/* Removes it when it is temporary. */
void lh_work_folder_end(struct lh_work_folder *folder);

#endif
