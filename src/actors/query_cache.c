/* The cache of objects. Any query worker's thread; the file system is all that they share.
 *
 * A file that is in use has been touched minutes ago at most, and is not removed; a reader that is
 * slower than that keeps its descriptor, and with it the bytes. Two workers may fetch one object at
 * the same time: both files are the same, and the second takes the place of the first. */
#include "actors/query_cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SUFFIX        ".parquet"
#define IN_USE_S      300 /* since a statement named it: longer than one takes to open its files */
#define TOUCH_EVERY_S 60

struct cached {
    char name[2 * SHA256_DIGEST_LENGTH + sizeof SUFFIX];
    uint64_t bytes;
    time_t used;
};

void lh_query_cache_path(const char *folder, const struct lh_manifest_object *object,
                         char path[PATH_MAX])
{
    unsigned char digests[3 * SHA256_DIGEST_LENGTH]; /* of the parts, and of all */
    char size[24];
    char hex[2 * SHA256_DIGEST_LENGTH + 1];
    int len = snprintf(size, sizeof size, "%" PRIu64, object->size);
    SHA256((const unsigned char *)object->key.ptr, object->key.len, digests);
    SHA256((const unsigned char *)object->fingerprint.ptr, object->fingerprint.len,
           digests + SHA256_DIGEST_LENGTH);
    SHA256((const unsigned char *)size, (size_t)len, digests + 2 * SHA256_DIGEST_LENGTH);
    const unsigned char *all = SHA256(digests, sizeof digests, digests);
    for (unsigned i = 0; i < SHA256_DIGEST_LENGTH; i++)
        snprintf(hex + 2 * i, 3, "%02x", all[i]);
    snprintf(path, PATH_MAX, "%s%s" SUFFIX, folder, hex);
}

/* ---- room ---- */

static int by_use(const void *a, const void *b)
{
    time_t x = ((const struct cached *)a)->used, y = ((const struct cached *)b)->used;
    return (x > y) - (x < y);
}

/* Lists the cache's files; NULL with `count` 0 when there is none, or no memory for them. */
static struct cached *list(int folder, uint32_t *count, uint64_t *bytes)
{
    struct cached *files = NULL;
    uint32_t capacity = 0;
    int handle = dup(folder);
    DIR *dir = handle >= 0 ? fdopendir(handle) : NULL;
    if (handle >= 0 && dir == NULL)
        close(handle);
    *count = 0;
    *bytes = 0;
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        struct stat info;
        size_t len = strlen(entry->d_name);
        if (len < sizeof SUFFIX || len >= sizeof files->name ||
            strcmp(entry->d_name + len - (sizeof SUFFIX - 1), SUFFIX) != 0 ||
            fstatat(folder, entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        if (*count == capacity) {
            capacity = capacity == 0 ? 64 : 2 * capacity;
            struct cached *grown = realloc(files, capacity * sizeof *grown);
            if (grown == NULL)
                break;
            files = grown;
        }
        struct cached *file = &files[(*count)++];
        memcpy(file->name, entry->d_name, len + 1);
        file->bytes = (uint64_t)info.st_size;
        file->used = info.st_atime;
        *bytes += file->bytes;
    }
    if (dir != NULL)
        closedir(dir);
    return files;
}

/* Removes old files until `wanted` more bytes fit. What cannot be had that way is not an error: the
 * disk says when it is full. */
static void make_room(int folder, uint64_t wanted, uint64_t bytes_max)
{
    uint32_t count;
    uint64_t bytes;
    struct cached *files = list(folder, &count, &bytes);
    time_t now = time(NULL);
    if (count > 0 && bytes + wanted > bytes_max)
        qsort(files, count, sizeof *files, by_use);
    for (uint32_t i = 0; i < count && bytes + wanted > bytes_max; i++) {
        if (now - files[i].used < IN_USE_S)
            break;
        if (unlinkat(folder, files[i].name, 0) == 0)
            bytes -= files[i].bytes;
    }
    free(files);
}

/* ---- files ---- */

/* Whether the file is there, and whole; notes its use. */
static bool is_here(const char *path, uint64_t size)
{
    struct stat info;
    if (stat(path, &info) != 0 || (uint64_t)info.st_size != size)
        return false;
    /* Its use is its time of access: DuckDB reads a file anew whose time of change has moved. */
    const struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_OMIT}};
    if (time(NULL) - info.st_atime > TOUCH_EVERY_S)
        (void)utimensat(AT_FDCWD, path, times, 0);
    return true;
}

static enum lh_status download(struct lh_object_client *objects,
                               const struct lh_manifest_object *object, int file,
                               struct lh_error *error)
{
    struct stat info;
    enum lh_status status = lh_object_client_get_file(objects, object->key, file, error);
    if (status != LH_OK)
        return status;
    if (fdatasync(file) != 0 || fstat(file, &info) != 0) /* a whole name is for good */
        return lh_error_sys(error, LH_IO, errno, "queryd.cache_dir: a file could not be kept");
    if ((uint64_t)info.st_size == object->size)
        return LH_OK;
    return lh_error_set(error, LH_OBJECT_MISMATCH,
                        "object \"%.*s\" has %llu bytes, its dataset says %llu",
                        (int)(object->key.len < 80 ? object->key.len : 80), object->key.ptr,
                        (unsigned long long)info.st_size, (unsigned long long)object->size);
}

enum lh_status lh_query_cache_fetch(const char *folder, uint64_t bytes_max,
                                    struct lh_object_client *objects,
                                    const struct lh_manifest_object *object, bool *is_fetched,
                                    struct lh_error *error)
{
    char path[PATH_MAX];
    char partial[PATH_MAX];
    lh_query_cache_path(folder, object, path);
    *is_fetched = false;
    if (is_here(path, object->size))
        return LH_OK;
    int handle = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (handle >= 0) {
        make_room(handle, object->size, bytes_max);
        close(handle);
    }
    if (snprintf(partial, sizeof partial, "%s" LH_QUERY_PARTIAL "XXXXXX", folder) >=
        (int)sizeof partial)
        return lh_error_set(error, LH_IO, "queryd.cache_dir: the path is too long");
    int file = mkostemp(partial, O_CLOEXEC);
    if (file < 0)
        return lh_error_sys(error, errno == ENOSPC ? LH_NO_SPACE : LH_IO, errno,
                            "queryd.cache_dir: a file could not be made");
    enum lh_status status = download(objects, object, file, error);
    close(file);
    if (status == LH_OK && rename(partial, path) != 0)
        status = lh_error_sys(error, LH_IO, errno, "queryd.cache_dir: a file could not be kept");
    if (status != LH_OK)
        (void)unlink(partial);
    *is_fetched = status == LH_OK;
    return status;
}

void lh_query_cache_clean(const char *folder)
{
    DIR *dir = opendir(folder);
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;)
        if (strncmp(entry->d_name, LH_QUERY_PARTIAL, sizeof LH_QUERY_PARTIAL - 1) == 0)
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
    if (dir != NULL)
        closedir(dir);
}
