/* runtime/pipe: what goes in of a file comes out, of a socket's or into memory; nothing more once
 * the file is not what it was; no descriptor is left. */
#include "runtime/pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define ROOM       65536u
#define FILE_BYTES (3 * ROOM + 77)

struct world {
    struct lh_pipe pipe;
    int file;
    int sockets[2]; /* what goes into the first comes out of the second */
    int descriptor; /* the lowest that was free before */
    char bytes[FILE_BYTES];
    char got[FILE_BYTES];
};

static int lowest_free(void)
{
    int fd = dup(STDERR_FILENO);
    close(fd);
    return fd;
}

static int set_up(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    char path[] = "/tmp/lh-pipe-XXXXXX";
    assert_non_null(world);
    for (size_t i = 0; i < FILE_BYTES; i++)
        world->bytes[i] = (char)((uint32_t)i * 2654435761u >> 24);
    world->descriptor = lowest_free();
    world->file = mkstemp(path);
    assert_true(world->file >= 0);
    unlink(path);
    assert_int_equal(write(world->file, world->bytes, FILE_BYTES), FILE_BYTES);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, world->sockets), 0);
    assert_true(lh_pipe_open(&world->pipe, ROOM));
    *state = world;
    return 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;
    lh_pipe_close(&world->pipe);
    close(world->file);
    close(world->sockets[0]);
    close(world->sockets[1]);
    assert_int_equal(lowest_free(), world->descriptor);
    free(world);
    return 0;
}

static void what_goes_in_comes_out_of_the_socket(void **state)
{
    struct world *world = *state;
    const size_t offsets[] = {0, 1, 4095, 4096, 2 * ROOM - 1};
    for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++) {
        assert_int_equal(lh_pipe_fill(&world->pipe, world->file, offsets[i], 10000), 0);
        assert_int_equal(world->pipe.len, 10000);
        assert_int_equal(lh_pipe_send(&world->pipe, world->sockets[0]), 0);
        assert_int_equal(world->pipe.len, 0);
        assert_int_equal(recv(world->sockets[1], world->got, FILE_BYTES, 0), 10000);
        assert_memory_equal(world->got, world->bytes + offsets[i], 10000);
    }
}

static void a_full_pipe_holds_what_it_has_room_for(void **state)
{
    struct world *world = *state;
    assert_int_equal(lh_pipe_fill(&world->pipe, world->file, 0, FILE_BYTES), 0);
    assert_int_equal(world->pipe.len, ROOM);
    assert_int_equal(lh_pipe_send(&world->pipe, world->sockets[0]), 0);
    assert_int_equal(recv(world->sockets[1], world->got, FILE_BYTES, 0), ROOM);
    /* Pages that begin inside a page take one more. */
    assert_int_equal(lh_pipe_fill(&world->pipe, world->file, 1, FILE_BYTES), 0);
    assert_in_range(world->pipe.len, 1, ROOM - 1);
}

static void the_end_of_a_file_is_told(void **state)
{
    struct world *world = *state;
    assert_int_equal(lh_pipe_fill(&world->pipe, world->file, FILE_BYTES - 5, 100), 0);
    assert_int_equal(world->pipe.len, 5);
    assert_int_equal(lh_pipe_read(&world->pipe, world->got, FILE_BYTES), 5);
    assert_memory_equal(world->got, world->bytes + FILE_BYTES - 5, 5);
    assert_int_equal(lh_pipe_read(&world->pipe, world->got, FILE_BYTES), 0);
    assert_int_equal(lh_pipe_fill(&world->pipe, world->file, FILE_BYTES, 100), 0);
    assert_int_equal(world->pipe.len, 0);
}

static void a_socket_that_is_full_keeps_the_rest_in_the_pipe(void **state)
{
    struct world *world = *state;
    size_t in = 0, out = 0;
    int rc = 0, room = 65536;
    assert_int_equal(setsockopt(world->sockets[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room), 0);
    while (rc == 0 && in < FILE_BYTES) {
        if (world->pipe.len == 0)
            assert_int_equal(lh_pipe_fill(&world->pipe, world->file, in, 40000), 0);
        size_t had = world->pipe.len;
        rc = lh_pipe_send(&world->pipe, world->sockets[0]);
        in += had - world->pipe.len;
        if (rc == -EAGAIN) { /* read a part by copy, as one who waits for room does */
            int64_t n = lh_pipe_read(&world->pipe, world->got, 100);
            assert_int_equal(n, 100);
            assert_memory_equal(world->got, world->bytes + in, 100);
            in += 100;
            break;
        }
    }
    assert_int_equal(rc, -EAGAIN);
    assert_true(world->pipe.len > 0);
    size_t spliced = in - 100;
    for (ssize_t n = 1; out < spliced && n > 0; out += n > 0 ? (size_t)n : 0)
        n = recv(world->sockets[1], world->got + out, FILE_BYTES - out, 0);
    assert_int_equal(out, spliced);
    assert_memory_equal(world->got, world->bytes, spliced);
    size_t left = world->pipe.len;
    assert_int_equal(lh_pipe_send(&world->pipe, world->sockets[0]), 0);
    assert_int_equal(recv(world->sockets[1], world->got, FILE_BYTES, 0), left);
    assert_memory_equal(world->got, world->bytes + in, left);
}

static void a_file_that_changes_is_not_sent_on(void **state)
{
    char name[LH_PIPE_FILE_NAME_BYTES];
    struct world *world = *state;
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(lh_pipe_fill(&world->pipe, world->file, 0, 10000), 0);
        if (i == 0)
            assert_int_equal(ftruncate(world->file, FILE_BYTES - 1), 0);
        else if (i == 1)
            assert_int_equal(ftruncate(world->file, FILE_BYTES + 1), 0);
        else
            assert_int_equal(futimens(world->file, (struct timespec[2]){{1, 0}, {1, 0}}), 0);
        lh_pipe_file_name(&world->pipe, name);
        assert_memory_equal(name, "/tmp/lh-pipe-", 13);
        assert_int_equal(lh_pipe_send(&world->pipe, world->sockets[0]), -ESTALE);
        assert_int_equal(lh_pipe_read(&world->pipe, world->got, 1), -ESTALE);
        assert_int_equal(recv(world->sockets[1], world->got, 1, 0), -1);
        lh_pipe_close(&world->pipe);
        assert_true(lh_pipe_open(&world->pipe, ROOM));
    }
    /* Another name or mode is no change of what is in it. */
    assert_int_equal(lh_pipe_fill(&world->pipe, world->file, 0, 10000), 0);
    assert_int_equal(fchmod(world->file, 0400), 0);
    assert_int_equal(lh_pipe_send(&world->pipe, world->sockets[0]), 0);
}

static void what_cannot_be_spliced_is_an_error_and_leaves_the_pipe_empty(void **state)
{
    struct world *world = *state;
    assert_int_equal(lh_pipe_fill(&world->pipe, -1, 0, 100), -EBADF);
    int folder = open("/", O_RDONLY | O_DIRECTORY);
    assert_true(folder >= 0);
    assert_true(lh_pipe_fill(&world->pipe, folder, 0, 100) < 0);
    close(folder);
    assert_int_equal(world->pipe.len, 0);
    assert_int_equal(lh_pipe_fill(&world->pipe, world->file, 0, 100), 0);
    close(world->sockets[1]);
    assert_int_equal(lh_pipe_send(&world->pipe, world->sockets[0]), -EPIPE);
    world->sockets[1] = dup(STDERR_FILENO);
}

static void a_pipe_that_is_moved_is_there_once(void **state)
{
    struct world *world = *state;
    struct lh_pipe taken = lh_pipe_take(&world->pipe);
    assert_int_equal(world->pipe.room, 0);
    lh_pipe_close(&world->pipe); /* none: nothing happens */
    assert_int_equal(lh_pipe_fill(&taken, world->file, 0, 100), 0);
    lh_pipe_close(&taken);
    assert_int_equal(taken.room, 0);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        TEST(what_goes_in_comes_out_of_the_socket),
        TEST(a_full_pipe_holds_what_it_has_room_for),
        TEST(the_end_of_a_file_is_told),
        TEST(a_socket_that_is_full_keeps_the_rest_in_the_pipe),
        TEST(a_file_that_changes_is_not_sent_on),
        TEST(what_cannot_be_spliced_is_an_error_and_leaves_the_pipe_empty),
        TEST(a_pipe_that_is_moved_is_there_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
