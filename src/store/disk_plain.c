/* A disk over a folder that may be another's: for looking at files, without the lock and without
 * leaving anything there. Runs on the thread that opens it. */
#include "store/disk_internal.h"

#include <errno.h>
#include <fcntl.h>

enum lh_status lh_disk_open_plain(const char *root, struct lh_disk **disk, struct lh_error *error)
{
    struct lh__disk_folder folder = {
        .lock = -1, .wake = -1, .file_mode = 0600, .folder_mode = 0700};
    folder.root = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder.root < 0)
        return lh_error_sys(error, LH_IO, errno, "%.100s", root);
    *disk = lh__disk_blocking_create(&folder);
    if (*disk != NULL)
        return LH_OK;
    lh__disk_folder_deinit(&folder);
    return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory to open %.100s", root);
}
