/* A pipe that takes pages of a file to a socket: splice(2) moves references to the page cache, and
 * no byte is copied on the way. Single-owner: whoever holds it, one thread after another.
 *
 * What stands in the pipe are still the file's own pages, so what is written into the file
 * meanwhile is seen behind them. The pipe keeps a descriptor of the file, and nothing more is sent
 * once the file is not what it was. */
#ifndef LH_RUNTIME_PIPE_H
#define LH_RUNTIME_PIPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

struct lh_pipe {
    size_t room; /* bytes of whole pages; 0: there is no pipe, as in zeroed memory */
    size_t len;  /* bytes that stand in it */
    int in;
    int out;
    int file; /* while `len` is not 0: what they are of */
    uint64_t file_bytes;
    struct timespec file_modified;
};

/* False where the system gives none of `room` bytes. */
bool lh_pipe_open(struct lh_pipe *pipe, size_t room);
/* With what stands in it. One that is not there may be closed, too. */
void lh_pipe_close(struct lh_pipe *pipe);
/* For an owner that moves it: what is left is none. */
struct lh_pipe lh_pipe_take(struct lh_pipe *pipe);

/* Puts up to `len` bytes of `file` from `offset` on into an empty pipe; fewer where it is full, or
 * at the file's end. Sleeps until they are read from the disk. 0 or -errno: -EINVAL where the file
 * system has no splice. */
int lh_pipe_fill(struct lh_pipe *pipe, int file, uint64_t offset, size_t len);

/* Sends what the socket takes without waiting. 0: all of it; -EAGAIN: the socket is full; -ESTALE:
 * the file is not what it was; else -errno. */
int lh_pipe_send(struct lh_pipe *pipe, int socket);

/* The other way out: copies the next bytes, up to `len`, into memory. Gives how many, or -errno. */
int64_t lh_pipe_read(struct lh_pipe *pipe, void *bytes, size_t len);

/* For logs: the path of the file whose bytes stand in it. */
#define LH_PIPE_FILE_NAME_BYTES 256u
void lh_pipe_file_name(const struct lh_pipe *pipe, char name[LH_PIPE_FILE_NAME_BYTES]);

#endif
