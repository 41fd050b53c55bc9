/* What is on a simulated disk: files and names, each as it is seen and as it is durable, with the
 * changes between the two in their order. No threads, no chains, no faults: disk_sim.c has those.
 *
 * Memory is never missing here: a test that cannot have it aborts. */
#ifndef LH_TESTS_SIM_STATE_H
#define LH_TESTS_SIM_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LH_SIM_PATH_BYTES 240u
#define LH_SIM_FOLDER     0u /* in place of a file's number */
#define LH_SIM_ROOT       0u /* a folder's number */

/* Bytes that several files, copies and changes may share; who changes them has the only ref. */
struct lh_sim_bytes {
    uint32_t refs;
    uint64_t size;
    uint64_t room;
    uint8_t at[];
};

enum lh_sim_change_kind { LH_SIM_WRITE, LH_SIM_EMPTY, LH_SIM_GROW, LH_SIM_ATTRIBUTE };

struct lh_sim_change {
    enum lh_sim_change_kind kind;
    uint64_t offset;            /* WRITE; GROW: the size */
    struct lh_sim_bytes *bytes; /* WRITE, ATTRIBUTE */
};

struct lh_sim_file {
    uint32_t number; /* 0: this place is free */
    uint32_t handles;
    struct lh_sim_bytes *seen;
    struct lh_sim_bytes *durable;
    struct lh_sim_bytes *seen_attribute; /* NULL: none */
    struct lh_sim_bytes *durable_attribute;
    uint64_t modified_ns;          /* a count of changes: the same for the same history */
    struct lh_sim_change *changes; /* from durable to seen, but for what a failed sync has lost */
    size_t change_count;
    size_t change_room;
};

/* A name in a folder. A folder has a number for good: one that is removed and made again is another
 * with the same name. */
struct lh_sim_place {
    uint32_t in; /* the folder's number */
    char leaf[LH_SIM_PATH_BYTES];
};

struct lh_sim_name {
    struct lh_sim_place place;
    uint32_t file;
    uint32_t folder; /* of a folder: its number */
};

struct lh_sim_names {
    struct lh_sim_name *at;
    size_t count;
    size_t room;
};

/* A change of names: `from` goes away when it is there, `to` becomes the file or folder. Either may
 * have the leaf "", which is none. */
struct lh_sim_naming {
    struct lh_sim_place from;
    struct lh_sim_place to;
    uint32_t file;
    uint32_t folder;
};

struct lh_sim_state {
    struct lh_sim_file *files; /* by number - 1 */
    size_t file_count;
    size_t file_room;
    struct lh_sim_names seen;
    struct lh_sim_names durable;
    struct lh_sim_naming *namings; /* from durable to seen */
    size_t naming_count;
    size_t naming_room;
    uint32_t folders_made; /* the last one's number */
};

void lh_sim_state_deinit(struct lh_sim_state *state);
void lh_sim_state_copy(struct lh_sim_state *to, const struct lh_sim_state *from);

/* NULL: not there. */
const struct lh_sim_name *lh_sim_state_find(const struct lh_sim_state *state, const char *path);
struct lh_sim_file *lh_sim_state_file(const struct lh_sim_state *state, uint32_t number);

/* 0 or -errno. */
int lh_sim_state_folder(const struct lh_sim_state *state, const char *path, uint32_t *folder);
int lh_sim_state_make_file(struct lh_sim_state *state, const char *path, uint32_t *number);
/* What opening a path that is not there says: -ENOENT or -ENOTDIR. */
int lh_sim_state_missing(const struct lh_sim_state *state, const char *path);
/* Without its parents: those must be there. */
int lh_sim_state_make_one_folder(struct lh_sim_state *state, const char *path);
int lh_sim_state_make_folder(struct lh_sim_state *state, const char *path);
int lh_sim_state_rename(struct lh_sim_state *state, const char *path, const char *to);
/* Of a file: it has both names. */
int lh_sim_state_link(struct lh_sim_state *state, const char *path, const char *to);
/* -ENOTEMPTY */
int lh_sim_state_remove_folder(struct lh_sim_state *state, const char *path);
int lh_sim_state_unlink(struct lh_sim_state *state, const char *path);
/* Of one that has gone, too: as of a descriptor that is still open. */
void lh_sim_state_sync_folder(struct lh_sim_state *state, uint32_t folder);

void lh_sim_file_write(struct lh_sim_file *file, const void *bytes, uint64_t len, uint64_t offset);
void lh_sim_file_empty(struct lh_sim_file *file);
void lh_sim_file_grow(struct lh_sim_file *file, uint64_t size);
void lh_sim_file_set_attribute(struct lh_sim_file *file, const void *bytes, uint64_t len);
/* Without `all` the attribute stays as it may. */
void lh_sim_file_sync(struct lh_sim_file *file, bool all);
/* A sync that fails: some of the changes become durable, the others never will. */
void lh_sim_file_sync_failing(struct lh_sim_file *file, uint64_t *rng);
void lh_sim_file_rot(struct lh_sim_file *file, uint64_t offset, uint8_t mask);

/* Frees a file that has neither a name nor a handle. */
void lh_sim_state_forget(struct lh_sim_state *state, uint32_t number);

/* Bytes of all files that have a name or a handle. */
uint64_t lh_sim_state_used(const struct lh_sim_state *state);

/* Chooses what is durable of all the changes, and makes that what is seen. */
void lh_sim_state_crash(struct lh_sim_state *state, uint64_t *rng);

#endif
