/* Making and removing the folders of services. Main thread, at start and at the end. */
#include "actors/work_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROOM 64u /* for what is put into the folder */

/* Makes `path` and its parents. */
static int make_folders(char *path)
{
    for (char *at = path + 1; *at != '\0'; at++) {
        if (*at != '/')
            continue;
        *at = '\0';
        int result = mkdir(path, 0777);
        *at = '/';
        if (result != 0 && errno != EEXIST)
            return -1;
    }
    return mkdir(path, 0777) == 0 || errno == EEXIST ? 0 : -1;
}

static void empty(const char *path)
{
    char file[PATH_MAX + NAME_MAX + 2];
    struct dirent *entry;
    DIR *folder = opendir(path);
    if (folder == NULL)
        return;
    while ((entry = readdir(folder)) != NULL) {
        snprintf(file, sizeof file, "%s/%s", path, entry->d_name);
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (unlink(file) != 0) {
            empty(file);
            rmdir(file);
        }
    }
    closedir(folder);
}

/* Two servers would remove each other's files. The lock is the folder's own: it goes with its last
 * descriptor, however the process ends, and leaves nothing in the folder. A file system that has no
 * such locks is taken at its user's word. */
static enum lh_status lock_folder(struct lh_work_folder *folder, const char *place,
                                  struct lh_error *error)
{
    folder->lock = open(folder->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder->lock < 0)
        return lh_error_sys(error, LH_CONFIG, errno, "%s: folder %.80s", place, folder->path);
    if (flock(folder->lock, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
        return LH_OK;
    close(folder->lock);
    return lh_error_set(error, LH_CONFIG, "%s: another server or service uses %.100s", place,
                        folder->path);
}

enum lh_status lh_work_folder_make(struct lh_work_folder *folder, const struct lh_config *config,
                                   const char *key, const char *name, struct lh_error *error)
{
    struct lh_str configured = key != NULL ? lh_config_string(config, key) : LH_STR("");
    struct lh_str data = lh_config_string(config, "vectord.data_dir");
    const char *temporary = getenv("TMPDIR");
    const char *place = configured.len > 0 ? key : data.len > 0 ? "vectord.data_dir" : "TMPDIR";
    char path[PATH_MAX];
    int len;
    if (configured.len > 0)
        len = snprintf(path, sizeof path, "%.*s", LH_STR_FMT(configured));
    else if (data.len > 0)
        len = snprintf(path, sizeof path, "%.*s/%s", LH_STR_FMT(data), name);
    else
        len = snprintf(path, sizeof path, "%s/lakehoused-XXXXXX",
                       temporary != NULL && *temporary == '/' ? temporary : "/tmp");
    if (len < 0 || (size_t)len >= sizeof path - ROOM)
        return lh_error_set(error, LH_CONFIG, "%s: the path is too long", place);
    folder->is_temporary = configured.len == 0 && data.len == 0;
    if (folder->is_temporary ? mkdtemp(path) == NULL : make_folders(path) != 0)
        return lh_error_sys(error, LH_CONFIG, errno, "%s: folder %.80s", place, path);
    if (realpath(path, folder->path) == NULL || strlen(folder->path) >= PATH_MAX - ROOM) {
        folder->path[0] = '\0';
        return lh_error_sys(error, LH_CONFIG, errno, "%s: folder %.80s", place, path);
    }
    strcat(folder->path, "/");
    enum lh_status status = lock_folder(folder, place, error);
    if (status != LH_OK)
        folder->path[0] = '\0';
    return status;
}

void lh_work_folder_empty(const struct lh_work_folder *folder)
{
    empty(folder->path);
}

void lh_work_folder_empty_below(const struct lh_work_folder *folder, const char *name)
{
    struct lh_work_folder below;
    if (snprintf(below.path, sizeof below.path, "%s%s/", folder->path, name) <
        (int)sizeof below.path)
        lh_work_folder_empty(&below);
}

void lh_work_folder_end(struct lh_work_folder *folder)
{
    if (folder->path[0] == '\0')
        return;
    if (folder->is_temporary) {
        empty(folder->path);
        rmdir(folder->path);
    }
    close(folder->lock);
    *folder = (struct lh_work_folder){.is_temporary = false};
}
