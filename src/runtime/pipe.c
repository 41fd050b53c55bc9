/* Pipes between files and sockets. Runs on whichever thread holds the pipe: on one that may sleep
 * to fill it, on the loop to empty it, which never sleeps, since the pages are there.
 *
 * Invariant: `file` is open exactly while `len` is not 0. */
#include "runtime/pipe.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

bool lh_pipe_open(struct lh_pipe *pipe, size_t room)
{
    int ends[2];
    assert(pipe->room == 0);
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return false;
    *pipe = (struct lh_pipe){.out = ends[0], .in = ends[1], .room = room};
    if (fcntl(pipe->in, F_SETPIPE_SZ, (int)room) >= (int)room)
        return true;
    lh_pipe_close(pipe); /* a user's pipes are limited in size and number */
    return false;
}

void lh_pipe_close(struct lh_pipe *pipe)
{
    if (pipe->room == 0)
        return;
    close(pipe->in);
    close(pipe->out);
    if (pipe->len > 0)
        close(pipe->file);
    *pipe = (struct lh_pipe){0};
}

struct lh_pipe lh_pipe_take(struct lh_pipe *pipe)
{
    struct lh_pipe taken = *pipe;
    *pipe = (struct lh_pipe){0};
    return taken;
}

int lh_pipe_fill(struct lh_pipe *pipe, int file, uint64_t offset, size_t len)
{
    off64_t at = (off64_t)offset;
    struct stat facts;
    int rc = 0;
    assert(pipe->room > 0 && pipe->len == 0 && len > 0);
    pipe->file = fcntl(file, F_DUPFD_CLOEXEC, 0);
    if (pipe->file < 0)
        return -errno;
    if (fstat(pipe->file, &facts) != 0)
        rc = -errno;
    pipe->file_bytes = (uint64_t)facts.st_size;
    pipe->file_modified = facts.st_mtim;
    while (rc == 0 && pipe->len < len) {
        ssize_t n = splice(file, &at, pipe->in, NULL, len - pipe->len, SPLICE_F_NONBLOCK);
        if (n > 0)
            pipe->len += (size_t)n;
        else if (n == 0)
            break; /* the file's end */
        else if (errno != EINTR)
            rc = -errno; /* -EAGAIN: full */
    }
    if (pipe->len > 0)
        return 0;
    close(pipe->file);
    return rc;
}

static bool is_as_it_was(const struct lh_pipe *pipe)
{
    struct stat facts;
    return fstat(pipe->file, &facts) == 0 && (uint64_t)facts.st_size == pipe->file_bytes &&
           facts.st_mtim.tv_sec == pipe->file_modified.tv_sec &&
           facts.st_mtim.tv_nsec == pipe->file_modified.tv_nsec;
}

static void have_left(struct lh_pipe *pipe, size_t bytes)
{
    assert(bytes <= pipe->len);
    pipe->len -= bytes;
    if (pipe->len == 0)
        close(pipe->file);
}

int lh_pipe_send(struct lh_pipe *pipe, int socket)
{
    while (pipe->len > 0) {
        if (!is_as_it_was(pipe))
            return -ESTALE;
        ssize_t n = splice(pipe->out, NULL, socket, NULL, pipe->len, SPLICE_F_NONBLOCK);
        if (n > 0)
            have_left(pipe, (size_t)n);
        else if (n == 0 || errno != EINTR)
            return n == 0 ? -EPIPE : -errno;
    }
    return 0;
}

int64_t lh_pipe_read(struct lh_pipe *pipe, void *bytes, size_t len)
{
    ssize_t n;
    if (pipe->len == 0)
        return 0;
    if (!is_as_it_was(pipe))
        return -ESTALE;
    do
        n = read(pipe->out, bytes, len);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return n == 0 ? -EPIPE : -errno;
    have_left(pipe, (size_t)n);
    return n;
}

void lh_pipe_file_name(const struct lh_pipe *pipe, char name[LH_PIPE_FILE_NAME_BYTES])
{
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", pipe->file);
    ssize_t len = pipe->len > 0 ? readlink(link, name, LH_PIPE_FILE_NAME_BYTES - 1) : 0;
    name[len > 0 ? len : 0] = '\0';
}
