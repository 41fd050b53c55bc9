/* store/disk_folder: making and locking the folder, falling back from io_uring, and what the errors
 * and notes say. */
#include "disk_help.h"

#include "store/disk_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>

struct opened {
    struct lh_disk *disk;
    enum lh_status status;
    struct lh_error error;
    char note[160];
};

static struct opened open_disk(const char *root, enum lh_disk_io io)
{
    struct lh_disk_options options = {.key = "data_dir", .lock = "lock", .io = io};
    struct opened opened = {0};
    opened.status = lh_disk_open_folder(root, &options, &opened.disk, opened.note, &opened.error);
    return opened;
}

static int set_up(void **state)
{
    char *root = malloc(64);
    assert_non_null(root);
    disk_root_make(root);
    *state = root;
    return 0;
}

static int tear_down(void **state)
{
    disk_root_remove(*state);
    free(*state);
    return 0;
}

/* Runs `what` in a child, whose exit status 0 is success and 77 that it could not be tried. */
static void in_child(void (*what)(const char *root, char *said), const char *root, char said[512])
{
    int status, ends[2];
    ssize_t len;
    pid_t pid;
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        char text[512] = "";
        what(root, text);
        len = write(ends[1], text, strlen(text) + 1);
        _exit(len > 0 ? 0 : 1);
    }
    close(ends[1]);
    len = read(ends[0], said, 511);
    said[len > 0 ? len : 0] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* What opening says, as "name|note|error". */
static void say(const char *root, enum lh_disk_io io, char *said)
{
    struct opened opened = open_disk(root, io);
    snprintf(said, 512, "%s|%s|%s", opened.disk != NULL ? lh_disk_name(opened.disk) : "",
             opened.note, opened.error.text);
    lh_disk_destroy(opened.disk);
}

static void say_auto(const char *root, char *said)
{
    say(root, LH_DISK_AUTO, said);
}

/* ---- the lock ---- */

static void a_second_server_is_told_the_pid_of_the_first(void **state)
{
    const char *root = *state;
    struct opened opened = open_disk(root, LH_DISK_AUTO);
    char said[512], want[512];
    assert_int_equal(opened.status, LH_OK);
    snprintf(want, sizeof want, "||data_dir %s is in use by lakehoused with pid %ld", root,
             (long)getpid());
    in_child(say_auto, root, said);
    assert_string_equal(said, want);
    say_auto(root, said); /* the same process, too */
    assert_string_equal(said, want);
    assert_int_equal(disk_do_one(opened.disk, disk_sync_folder(".")), 0);
    lh_disk_destroy(opened.disk);
    opened = open_disk(root, LH_DISK_AUTO);
    assert_int_equal(opened.status, LH_OK);
    lh_disk_destroy(opened.disk);
}

static void open_and_die(const char *root, char *said)
{
    struct opened opened = open_disk(root, LH_DISK_BLOCKING);
    snprintf(said, 512, "%d", opened.status);
}

static void a_lock_ends_with_its_process(void **state)
{
    const char *root = *state;
    char said[512];
    in_child(open_and_die, root, said);
    assert_string_equal(said, "0");
    in_child(open_and_die, root, said);
    assert_string_equal(said, "0");
}

static void a_lock_is_not_kept_by_what_the_server_executes(void **state)
{
    struct opened opened = open_disk(*state, LH_DISK_AUTO);
    const struct lh__disk_folder *folder = (struct lh__disk_folder *)opened.disk;
    int file = -1, fds[] = {folder->lock, folder->root, folder->wake, -1};
    assert_int_equal(lh_disk_open(opened.disk, "a", LH_DISK_OPEN_NEW, &file), 0);
    fds[3] = file;
    for (int i = 0; i < 4; i++)
        assert_true((fcntl(fds[i], F_GETFD) & FD_CLOEXEC) != 0);
    lh_disk_close(opened.disk, file);
    lh_disk_destroy(opened.disk);
}

/* ---- folders ---- */

static void a_missing_folder_is_made_with_its_parents_and_is_private(void **state)
{
    char root[128];
    struct stat stat_of;
    struct opened opened;
    snprintf(root, sizeof root, "%s/a//b/data/", (char *)*state);
    opened = open_disk(root, LH_DISK_AUTO);
    assert_int_equal(opened.status, LH_OK);
    assert_int_equal(stat(root, &stat_of), 0);
    assert_int_equal(stat_of.st_mode & 0777, 0700);
    lh_disk_destroy(opened.disk);
}

static void a_file_is_no_folder(void **state)
{
    char root[160], want[300];
    struct opened opened;
    int file;
    snprintf(root, sizeof root, "%s/file", (char *)*state);
    file = open(root, O_CREAT | O_WRONLY, 0600);
    assert_true(file >= 0);
    close(file);
    for (int i = 0; i < 2; i++) {
        opened = open_disk(root, LH_DISK_AUTO);
        snprintf(want, sizeof want, "data_dir %s: it, or a folder on its way, is not a folder",
                 root);
        assert_int_equal(opened.status, LH_IO);
        assert_int_equal(opened.error.sys_errno, ENOTDIR);
        assert_string_equal(opened.error.text, want);
        strcat(root, "/below");
    }
}

static void say_as_nobody(const char *root, char *said)
{
    if (setgid(65534) != 0 || setuid(65534) != 0)
        _exit(77);
    say_auto(root, said);
}

static void a_folder_without_permission_is_refused(void **state)
{
    const char *root = *state;
    char below[128], said[512], want[512];
    if (geteuid() != 0)
        skip(); /* only root has someone else to be */
    snprintf(below, sizeof below, "%s/closed", root);
    assert_int_equal(mkdir(below, 0555), 0);
    assert_int_equal(chmod(root, 0755), 0);
    in_child(say_as_nobody, below, said);
    snprintf(want, sizeof want, "||data_dir %s: no permission to write in it", below);
    assert_string_equal(said, want);
    strcat(below, "/new");
    in_child(say_as_nobody, below, said);
    snprintf(want, sizeof want, "||data_dir %s: no permission to make it", below);
    assert_string_equal(said, want);
    assert_int_equal(chmod(root, 0711), 0);
    strcpy(strrchr(below, '/'), "");
    assert_int_equal(chmod(below, 0700), 0);
    in_child(say_as_nobody, below, said);
    snprintf(want, sizeof want, "||data_dir %s: no permission to open it", below);
    assert_string_equal(said, want);
}

static void say_read_only(const char *root, char *said)
{
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount(root, root, NULL, MS_BIND, NULL) != 0 ||
        mount(NULL, root, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) != 0)
        _exit(77);
    say_auto(root, said);
}

static void a_read_only_file_system_is_refused(void **state)
{
    char said[512], want[512];
    in_child(say_read_only, *state, said);
    snprintf(want, sizeof want, "||data_dir %s is on a read-only file system", (char *)*state);
    assert_string_equal(said, want);
}

/* ---- io_uring or not ---- */

/* What a container does: io_uring_setup ends with `error`. */
static void refuse_rings(unsigned error)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof code[0], code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        _exit(77);
}

static void say_auto_without_permission(const char *root, char *said)
{
    refuse_rings(EPERM);
    say_auto(root, said);
}

static void say_auto_without_the_call(const char *root, char *said)
{
    refuse_rings(ENOSYS);
    say_auto(root, said);
}

static void say_uring_without_the_call(const char *root, char *said)
{
    refuse_rings(ENOSYS);
    say(root, LH_DISK_URING, said);
}

static void a_refused_ring_falls_back_and_says_the_likely_cause(void **state)
{
    char said[512];
    in_child(say_auto_without_permission, *state, said);
    assert_true(strcmp(said, "blocking|io_uring is not available: Operation not permitted "
                             "(a container's seccomp profile forbids it)|") == 0 ||
                strcmp(said, "blocking|io_uring is not available: Operation not permitted "
                             "(kernel.io_uring_disabled is set)|") == 0);
    in_child(say_auto_without_the_call, *state, said);
    assert_string_equal(said, "blocking|io_uring is not available: Function not implemented "
                              "(the kernel is older than 5.1 or was built without it)|");
}

static void a_ring_that_was_asked_for_and_is_refused_is_an_error(void **state)
{
    char said[512];
    in_child(say_uring_without_the_call, *state, said);
    assert_non_null(strstr(said, "|server.io is \"uring\", but io_uring is not available: "
                                 "Function not implemented (the kernel is older than 5.1"));
    assert_int_equal(said[0], '|');
    in_child(open_and_die, *state, said); /* and the lock is free again */
    assert_string_equal(said, "0");
}

static void a_note_names_the_likely_cause(void **state)
{
    char note[160];
    lh__disk_uring_note(ENOMEM, note);
    assert_string_equal(note, "io_uring is not available: Cannot allocate memory "
                              "(RLIMIT_MEMLOCK is too low for a ring: see ulimit -l)");
    lh__disk_uring_note(EMFILE, note);
    assert_string_equal(note, "io_uring is not available: Too many open files");
}

static void the_kind_that_was_asked_for_is_the_kind_that_runs(void **state)
{
    struct opened opened = open_disk(*state, LH_DISK_BLOCKING);
    assert_string_equal(lh_disk_name(opened.disk), "blocking");
    assert_string_equal(opened.note, "");
    lh_disk_destroy(opened.disk);
    opened = open_disk(*state, LH_DISK_AUTO);
    assert_int_equal(opened.note[0] == '\0', strcmp(lh_disk_name(opened.disk), "io_uring") == 0);
    lh_disk_destroy(opened.disk);
}

static unsigned descriptors(void)
{
    unsigned count = 0;
    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void nothing_stays_open(void **state)
{
    const enum lh_disk_io kinds[] = {LH_DISK_AUTO, LH_DISK_BLOCKING};
    unsigned before = descriptors();
    for (int i = 0; i < 2; i++) {
        struct opened opened = open_disk(*state, kinds[i]), second;
        assert_int_equal(disk_do_one(opened.disk, disk_sync_folder(".")), 0);
        assert_int_equal(disk_do_one(opened.disk, disk_sync_folder("missing")), -ENOENT);
        lh_disk_wake(opened.disk);
        lh_disk_run(opened.disk, true);
        second = open_disk(*state, kinds[i]);
        assert_int_equal(second.status, LH_IO);
        lh_disk_destroy(opened.disk);
        assert_int_equal(descriptors(), before);
    }
}

/* Whether the first byte of a file is in the page cache. A read that must not wait would not tell:
 * it has the page fetched, and gets it when the disk is quick. */
static bool is_cached(int file)
{
    unsigned char page;
    void *at = mmap(NULL, 1, PROT_READ, MAP_PRIVATE, file, 0);
    assert_ptr_not_equal(at, MAP_FAILED);
    assert_int_equal(mincore(at, 1, &page), 0);
    munmap(at, 1);
    return (page & 1) != 0;
}

/* Writes, syncs and checks a file of `len` bytes from `bytes` on, in two writes when `first` < len,
 * and returns whether it was in the page cache then. */
static bool write_directly(struct lh_disk *disk, const char *bytes, size_t first, size_t len)
{
    struct lh_disk_op ops[4] = {{.kind = LH_DISK_OPEN, .path = "a", .how = LH_DISK_OPEN_NEW},
                                disk_write(-1, bytes, first, 0),
                                disk_write(-1, bytes + first, len - first, first),
                                disk_sync(-1)};
    char *got = malloc(len + 1);
    size_t have;
    int file;
    bool is;
    ops[1].is_direct = ops[2].is_direct = true;
    assert_non_null(got);
    assert_int_equal(disk_do(disk, ops, 4), 0);
    lh_disk_close(disk, ops[0].file);
    assert_int_equal(lh_disk_open(disk, "a", LH_DISK_OPEN_READ_EXACT, &file), 0);
    is = is_cached(file);
    assert_int_equal(lh_disk_read(disk, file, got, len + 1, 0, &have), 0);
    assert_int_equal(have, len);
    assert_memory_equal(got, bytes, len);
    lh_disk_close(disk, file);
    free(got);
    return is;
}

/* What a file system does with `bytes`, whole blocks, that are written with `flags` (O_DIRECT, or
 * not) and synced: whether the page cache has them then. */
static bool keeps_pages(const char *root, const char *bytes, size_t len, int flags)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/probe", root);
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC | flags, 0600);
    if (file < 0 && errno == EINVAL)
        return true; /* it has no such way */
    assert_true(file >= 0);
    assert_int_equal(pwrite(file, bytes, len, 0), len);
    assert_int_equal(fsync(file), 0);
    close(file);
    file = open(path, O_RDONLY); /* a FUSE may forget it between two opens */
    assert_true(file >= 0);
    bool is = is_cached(file);
    close(file);
    return is;
}

/* The pages are looked at where they tell one from the other: not where file data is journaled or
 * in memory, in a FUSE without a cache, or where a page of several blocks has only some of them;
 * and not for less than a block of the file system, whose page the tail brings along. The bytes are
 * compared everywhere. */
static void what_is_written_directly_is_whole_and_leaves_no_pages(void **state)
{
    const enum lh_disk_io kinds[] = {LH_DISK_AUTO, LH_DISK_BLOCKING};
    const size_t lengths[] = {1, 4095, 4096, 4097, 65536, 65637, 300000};
    const size_t room = 77u * LH_DISK_DIRECT_BYTES;
    char *bytes = aligned_alloc(LH_DISK_DIRECT_BYTES, room);
    struct statvfs fs;
    assert_non_null(bytes);
    for (size_t i = 0; i < room; i++)
        bytes[i] = (char)(i * 2654435761u >> 11);
    assert_int_equal(statvfs(*state, &fs), 0);
    bool tells = fs.f_bsize >= 4096 && keeps_pages(*state, bytes, room, 0) &&
                 !keeps_pages(*state, bytes, room, O_DIRECT);
    for (int kind = 0; kind < 2; kind++) {
        struct opened opened = open_disk(*state, kinds[kind]);
        assert_int_equal(opened.status, LH_OK);
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
            bool is = write_directly(opened.disk, bytes, lengths[i], lengths[i]);
            if (tells && lengths[i] < LH_DISK_DIRECT_BYTES)
                assert_true(is);
            else if (tells && lengths[i] >= LH_DISK_DIRECT_BYTES && lengths[i] >= fs.f_bsize)
                assert_false(is);
            is = write_directly(opened.disk, bytes + 1, lengths[i], lengths[i]);
            assert_true(is || !tells);
            write_directly(opened.disk, bytes, lengths[i] / 2, lengths[i]);
        }
        lh_disk_destroy(opened.disk);
    }
    free(bytes);
}

/* A limit on files makes the kernel write less, which is refused where it is not whole blocks. */
static void what_a_direct_write_leaves_is_written_as_usual(void **state)
{
    static _Alignas(LH_DISK_DIRECT_BYTES) char bytes[4 * LH_DISK_DIRECT_BYTES] = "x";
    const rlim_t limits[] = {2 * LH_DISK_DIRECT_BYTES, 2 * LH_DISK_DIRECT_BYTES + 1808};
    const enum lh_disk_io kinds[] = {LH_DISK_AUTO, LH_DISK_BLOCKING};
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    struct rlimit before, limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    for (int i = 0; i < 4; i++) {
        struct opened opened = open_disk(*state, kinds[i / 2]);
        struct lh_disk_op ops[3] = {{.kind = LH_DISK_OPEN, .path = "a", .how = LH_DISK_OPEN_NEW},
                                    disk_write(-1, bytes, sizeof bytes, 0),
                                    disk_sync(-1)};
        uint64_t size = 0;
        ops[1].is_direct = true;
        limit.rlim_cur = limits[i % 2];
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        int rc = disk_do(opened.disk, ops, 3);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_int_equal(rc, -EFBIG);
        assert_int_equal(ops[1].result, -EFBIG);
        assert_int_equal(ops[2].result, -ECANCELED);
        assert_int_equal(lh_disk_size(opened.disk, ops[0].file, &size), 0);
        assert_int_equal(size, limits[i % 2]);
        /* What comes behind it in that file is written, wherever it begins. */
        assert_int_equal(disk_do_one(opened.disk, disk_write(ops[0].file, "tail", 4, 3)), 0);
        lh_disk_close(opened.disk, ops[0].file);
        lh_disk_destroy(opened.disk);
    }
    signal(SIGXFSZ, handler);
}

#define ON_A_FOLDER(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_A_FOLDER(a_second_server_is_told_the_pid_of_the_first),
        ON_A_FOLDER(a_lock_ends_with_its_process),
        ON_A_FOLDER(a_lock_is_not_kept_by_what_the_server_executes),
        ON_A_FOLDER(a_missing_folder_is_made_with_its_parents_and_is_private),
        ON_A_FOLDER(a_file_is_no_folder),
        ON_A_FOLDER(a_folder_without_permission_is_refused),
        ON_A_FOLDER(a_read_only_file_system_is_refused),
        ON_A_FOLDER(a_refused_ring_falls_back_and_says_the_likely_cause),
        ON_A_FOLDER(a_ring_that_was_asked_for_and_is_refused_is_an_error),
        cmocka_unit_test(a_note_names_the_likely_cause),
        ON_A_FOLDER(the_kind_that_was_asked_for_is_the_kind_that_runs),
        ON_A_FOLDER(what_is_written_directly_is_whole_and_leaves_no_pages),
        ON_A_FOLDER(what_a_direct_write_leaves_is_written_as_usual),
        ON_A_FOLDER(nothing_stays_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
