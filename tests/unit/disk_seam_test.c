/* store/disk: what all three disks promise, io_uring, blocking and simulated: each test runs on
 * each of them, and those of chains on an io_uring that gets no threads, too. */
#include "disk_help.h"

#include "runtime/pipe.h"
#include "seed.h"
#include "sim/disk_sim.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <time.h>

struct bench {
    struct lh_disk *disk;
    char root[64]; /* empty: simulated */
};

/* ---- threads, of which there may be none ---- */

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *),
                          void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *),
                          void *arg);

static bool has_no_threads;

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *),
                          void *arg)
{
    return has_no_threads ? EAGAIN : __real_pthread_create(thread, attr, run, arg);
}

/* ---- a disk that is nearly full ---- */

int __real_fstatvfs(int file, struct statvfs *disk);
int __wrap_fstatvfs(int file, struct statvfs *disk);

static bool is_nearly_full;

int __wrap_fstatvfs(int file, struct statvfs *disk)
{
    int rc = __real_fstatvfs(file, disk);
    if (is_nearly_full)
        disk->f_bavail = 15;
    return rc;
}

static int set_up(void **state)
{
    const char *kind = *state;
    struct bench *bench = calloc(1, sizeof *bench);
    char note[160];
    struct lh_error error = {0};
    assert_non_null(bench);
    if (strcmp(kind, "simulated") == 0) {
        bench->disk = lh_sim_disk_disk(lh_sim_disk_create(lh_test_seed()));
    } else {
        struct lh_disk_options options = {.key = "data_dir",
                                          .lock = "lock",
                                          .io = strcmp(kind, "io_uring") == 0 ? LH_DISK_URING
                                                                              : LH_DISK_BLOCKING};
        disk_root_make(bench->root);
        if (lh_disk_open_folder(bench->root, &options, &bench->disk, note, &error) != LH_OK)
            print_message("%s\n", error.text);
    }
    assert_true(bench->disk == NULL || strcmp(lh_disk_name(bench->disk), kind) == 0);
    *state = bench;
    return 0;
}

static int tear_down(void **state)
{
    struct bench *bench = *state;
    lh_disk_destroy(bench->disk);
    if (bench->root[0] != '\0')
        disk_root_remove(bench->root);
    free(bench);
    has_no_threads = false;
    return 0;
}

static int set_up_without_threads(void **state)
{
    has_no_threads = true;
    return set_up(state);
}

/* The disk of a test; a kernel without io_uring has only two. */
static struct lh_disk *disk_of(void **state)
{
    struct bench *bench = *state;
    if (bench->disk == NULL)
        skip();
    return bench->disk;
}

/* ---- operations ---- */

static void what_is_written_is_read_back(void **state)
{
    struct lh_disk *disk = disk_of(state);
    struct lh_disk_op ops[3];
    char got[32];
    uint64_t size = 0;
    size_t have = 99;
    int file = -1;
    assert_int_equal(lh_disk_open(disk, "a", LH_DISK_OPEN_NEW, &file), 0);
    ops[0] = disk_write(file, "0123456789", 10, 0);
    ops[1] = disk_write(file, "abcd", 4, 4);
    ops[2] = disk_sync(file);
    assert_int_equal(disk_do(disk, ops, 3), 0);
    assert_int_equal(lh_disk_size(disk, file, &size), 0);
    assert_int_equal(size, 10);
    assert_int_equal(lh_disk_read(disk, file, got, sizeof got, 2, &have), 0);
    assert_int_equal(have, 8);
    assert_memory_equal(got, "23abcd89", 8);
    assert_int_equal(lh_disk_read(disk, file, got, sizeof got, 10, &have), 0);
    assert_int_equal(have, 0);
    assert_int_equal(disk_do_one(disk, disk_write(file, "", 0, 0)), 0);
    lh_disk_close(disk, file);
}

static void a_file_is_replaced_by_one_chain(void **state)
{
    struct lh_disk *disk = disk_of(state);
    struct lh_disk_op ops[4];
    char text[16];
    int file;
    assert_int_equal(lh_disk_make_folder(disk, "_vectors"), 0);
    lh_disk_close(disk, disk_make_file(disk, "_vectors/a.lhv1", "old"));
    assert_int_equal(lh_disk_open(disk, "_vectors/a.tmp", LH_DISK_OPEN_NEW, &file), 0);
    ops[0] = disk_write(file, "new", 3, 0);
    ops[1] = disk_sync(file);
    ops[2] = disk_rename("_vectors/a.tmp", "_vectors/a.lhv1");
    ops[3] = disk_sync_folder("_vectors");
    assert_int_equal(disk_do(disk, ops, 4), 0);
    lh_disk_close(disk, file);
    assert_true(disk_read_text(disk, "_vectors/a.lhv1", text, sizeof text));
    assert_string_equal(text, "new");
    assert_false(disk_has(disk, "_vectors/a.tmp"));
    assert_int_equal(disk_do_one(disk, disk_sync_folder(".")), 0);
    assert_int_equal(disk_do_one(disk, disk_sync_folder("_vectors")), 0);
}

/* The chain that puts an object: what is behind the OPEN is done with the file that it gives. */
struct making {
    struct lh_disk_op ops[6];
    uint8_t attribute[16];
    char temp[16];
    char name[32];
    unsigned ended;
};

static void making_ended(struct lh_disk_op *op)
{
    struct making *making = op->arg;
    assert_ptr_equal(op, &making->ops[making->ended++]);
}

static void make_by_one_chain(struct lh_disk *disk, struct making *making, unsigned number)
{
    snprintf(making->temp, sizeof making->temp, "%u.tmp", number);
    snprintf(making->name, sizeof making->name, "made/%u", number);
    memcpy(making->attribute, "1234........abcd", 16);
    memcpy(making->ops,
           (struct lh_disk_op[]){
               {.kind = LH_DISK_OPEN, .path = making->temp, .how = LH_DISK_OPEN_NEW},
               number % 2 == 0 ? disk_allocate(-1, 6, 0) : disk_write(-1, "", 0, 0),
               disk_write(-1, making->name, 6, 0),
               {.kind = LH_DISK_SET_ATTRIBUTE, .into = making->attribute, .len = 16, .offset = 4},
               {.kind = LH_DISK_SYNC_ALL, .file = -1},
               disk_rename(making->temp, making->name),
           },
           sizeof making->ops);
    for (unsigned i = 0; i < 6; i++) {
        making->ops[i].next = i < 5 ? &making->ops[i + 1] : NULL;
        making->ops[i].done = making_ended;
        making->ops[i].arg = making;
    }
    lh_disk_submit(disk, making->ops);
}

static void check_made(struct lh_disk *disk, const struct making *making)
{
    struct lh_disk_facts facts;
    uint64_t modified_ns = 0;
    char text[16];
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(making->ops[i].result, 0);
    assert_int_equal(lh_disk_describe(disk, making->ops[0].file, &facts), 0);
    assert_int_equal(facts.bytes, 6);
    assert_int_equal(facts.attribute_len, 16);
    assert_memory_equal(facts.attribute, "1234", 4);
    assert_memory_equal(facts.attribute + 12, "abcd", 4);
    for (unsigned i = 0; i < 8; i++)
        modified_ns |= (uint64_t)facts.attribute[4 + i] << (8 * i);
    assert_int_equal(modified_ns, facts.modified_ns);
    lh_disk_close(disk, making->ops[0].file);
    assert_true(disk_read_text(disk, making->name, text, sizeof text));
    assert_memory_equal(text, making->name, 6);
    assert_false(disk_has(disk, making->temp));
}

/* More at once than there are threads that do chains, and some that fail. */
static void files_are_made_by_one_chain_each(void **state)
{
    enum { FILES = 300, FOLDER_AT = 150 };
    struct lh_disk *disk = disk_of(state);
    struct making *makings = calloc(FILES, sizeof *makings);
    unsigned ended = 0;
    assert_non_null(makings);
    assert_int_equal(lh_disk_make_folder(disk, "made"), 0);
    for (unsigned n = 0; n < FILES; n++) {
        if (n == FOLDER_AT) /* it takes a name, and the rename fails */
            assert_int_equal(lh_disk_make_folder(disk, "made/150"), 0);
        make_by_one_chain(disk, &makings[n], n);
    }
    while (ended < FILES * 6) {
        lh_disk_run(disk, true);
        ended = 0;
        for (unsigned n = 0; n < FILES; n++)
            ended += makings[n].ended;
    }
    for (unsigned n = 0; n < FILES; n++) {
        if (n != FOLDER_AT) {
            check_made(disk, &makings[n]);
            continue;
        }
        assert_int_equal(makings[n].ops[4].result, 0);
        assert_int_equal(makings[n].ops[5].result, -EISDIR);
        assert_true(disk_has(disk, makings[n].temp));
        lh_disk_close(disk, makings[n].ops[0].file);
    }
    free(makings);
}

static void a_failure_cancels_what_is_behind_it(void **state)
{
    struct lh_disk *disk = disk_of(state);
    int file = disk_make_file(disk, "keep", "1");
    char text[16];
    for (unsigned fails = 0; fails < 4; fails++) {
        struct lh_disk_op ops[4];
        for (unsigned i = 0; i < 4; i++)
            ops[i] = i < fails    ? disk_write(file, "234" + i, 1, i)
                     : i == fails ? disk_rename("missing", "other")
                     : i == 3     ? disk_unlink("keep")
                                  : disk_write(file, "bad", 3, 100);
        assert_int_equal(disk_do(disk, ops, 4), -ENOENT);
        for (unsigned i = 0; i < 4; i++)
            assert_int_equal(ops[i].result, i < fails ? 0 : i == fails ? -ENOENT : -ECANCELED);
    }
    lh_disk_close(disk, file);
    assert_true(disk_read_text(disk, "keep", text, sizeof text));
    assert_string_equal(text, "234");
}

static void unlinking_what_is_not_there_fails_nothing(void **state)
{
    struct lh_disk *disk = disk_of(state);
    int file = disk_make_file(disk, "a", "x");
    struct lh_disk_op ops[5] = {disk_unlink("missing"), disk_write(file, "yz", 2, 0),
                                disk_unlink("b"), disk_rename("a", "b"), disk_unlink("missing")};
    char text[16];
    assert_int_equal(disk_do(disk, ops, 5), 0);
    lh_disk_close(disk, file);
    assert_true(disk_read_text(disk, "b", text, sizeof text));
    assert_string_equal(text, "yz");
    assert_int_equal(disk_do_one(disk, disk_unlink("b")), 0);
    assert_false(disk_has(disk, "b"));
}

/* Each name outlives the other, and there is one file. */
static void a_file_is_linked_by_a_second_name(void **state)
{
    struct lh_disk *disk = disk_of(state);
    char text[16];
    int file = disk_make_file(disk, "a", "one");
    assert_int_equal(disk_do_one(disk, disk_link("a", "b")), 0);
    assert_int_equal(disk_do_one(disk, disk_write(file, "two", 3, 0)), 0);
    lh_disk_close(disk, file);
    assert_true(disk_read_text(disk, "b", text, sizeof text));
    assert_string_equal(text, "two");
    assert_int_equal(disk_do_one(disk, disk_link("a", "b")), -EEXIST);
    assert_int_equal(disk_do_one(disk, disk_unlink("a")), 0);
    assert_false(disk_has(disk, "a"));
    assert_true(disk_read_text(disk, "b", text, sizeof text));
    assert_string_equal(text, "two");
    assert_int_equal(disk_do_one(disk, disk_link("/proc/self/maps", "c")), -EXDEV);
}

/* Longer than what one entry of a ring writes: the rest of the chain must wait for all of it. */
static void a_write_in_parts_is_whole_before_the_chain_goes_on(void **state)
{
    struct lh_disk *disk = disk_of(state);
    const size_t words = (40u << 20) / sizeof(uint64_t);
    uint64_t *bytes = malloc(words * sizeof *bytes), size = 0;
    struct lh_disk_op ops[3];
    size_t have = 0;
    int file = -1;
    assert_non_null(bytes);
    for (size_t i = 0; i < words; i++)
        bytes[i] = i * 0x9e3779b97f4a7c15ull;
    assert_int_equal(lh_disk_open(disk, "a.tmp", LH_DISK_OPEN_NEW, &file), 0);
    ops[0] = disk_write(file, bytes, words * sizeof *bytes, 8);
    ops[1] = disk_sync(file);
    ops[2] = disk_rename("a.tmp", "a");
    assert_int_equal(disk_do(disk, ops, 3), 0);
    assert_int_equal(lh_disk_size(disk, file, &size), 0);
    assert_int_equal(size, words * sizeof *bytes + 8);
    memset(bytes, 0, words * sizeof *bytes);
    assert_int_equal(lh_disk_read(disk, file, bytes, words * sizeof *bytes, 8, &have), 0);
    assert_int_equal(have, words * sizeof *bytes);
    for (size_t i = 0; i < words; i++)
        assert_int_equal(bytes[i], i * 0x9e3779b97f4a7c15ull);
    lh_disk_close(disk, file);
    free(bytes);
}

static void allocating_grows_and_keeps(void **state)
{
    struct lh_disk *disk = disk_of(state);
    int file = disk_make_file(disk, "a", "data");
    struct lh_disk_op ops[3] = {disk_allocate(file, 65536, 0), disk_allocate(file, 4096, 65536),
                                disk_allocate(file, 16, 0)};
    char got[8];
    uint64_t size = 0;
    size_t have = 0;
    assert_int_equal(disk_do(disk, ops, 3), 0);
    assert_int_equal(lh_disk_size(disk, file, &size), 0);
    assert_int_equal(size, 65536 + 4096);
    assert_int_equal(lh_disk_read(disk, file, got, 8, 0, &have), 0);
    assert_memory_equal(got, "data\0\0\0\0", 8);
    lh_disk_close(disk, file);
}

/* Trying would take what others could write into at that moment. */
static void what_has_no_room_is_not_tried(void **state)
{
    struct lh_disk *disk = disk_of(state);
    int file = disk_make_file(disk, "a", "data");
    struct statvfs of_file;
    uint64_t size = 0;
    assert_int_equal(fstatvfs(file, &of_file), 0);
    struct lh_disk_op op = disk_allocate(file, 16 * of_file.f_frsize, 4);
    is_nearly_full = true;
    assert_int_equal(disk_do_one(disk, op), -ENOSPC);
    assert_int_equal(lh_disk_size(disk, file, &size), 0);
    assert_int_equal(size, 4);
    is_nearly_full = false;
    assert_int_equal(disk_do_one(disk, op), 0);
    assert_int_equal(lh_disk_size(disk, file, &size), 0);
    assert_int_equal(size, 4 + 16 * of_file.f_frsize);
    lh_disk_close(disk, file);
}

/* Everything up to where data is said to be is zero, and no byte of the data is behind it. */
static void what_is_passed_over_as_no_data_is_zero(void **state)
{
    enum { BYTES = 1 << 20, BLOCK = 65536, PLACE = 9 * BLOCK + 100 };
    struct lh_disk *disk = disk_of(state);
    int file = disk_make_file(disk, "a", "data");
    char *bytes = malloc(BYTES);
    struct lh_disk_op ops[2] = {disk_allocate(file, BYTES, 0), disk_write(file, "late", 4, PLACE)};
    size_t have = 0;
    uint64_t at = 99;
    assert_non_null(bytes);
    assert_int_equal(disk_do(disk, ops, 2), 0);
    assert_int_equal(lh_disk_read(disk, file, bytes, BYTES, 0, &have), 0);
    assert_int_equal(have, BYTES);
    for (uint64_t offset = 0; offset < BYTES; offset += BLOCK / 2) {
        assert_int_equal(lh_disk_data(disk, file, offset, &at), 0);
        assert_true(at >= offset && at <= BYTES);
        for (uint64_t i = offset; i < at; i++)
            assert_int_equal(bytes[i], 0);
    }
    assert_int_equal(lh_disk_data(disk, file, 0, &at), 0);
    assert_int_equal(at, 0);
    assert_int_equal(lh_disk_data(disk, file, PLACE + 2, &at), 0);
    assert_int_equal(at, PLACE + 2);
    lh_disk_close(disk, file);
    free(bytes);
}

/* Where the file system tells what was never written, reading what is before it does not change
 * that: else the end of a log would be read at each start for its having been read before. */
static void reading_exactly_leaves_what_is_behind_as_it_was(void **state)
{
    enum { BYTES = 8 << 20, READ = 1 << 20 };
    struct lh_disk *disk = disk_of(state);
    int file = disk_make_file(disk, "a", "data");
    struct lh_disk_op ops[2] = {disk_allocate(file, BYTES, 0), disk_sync(file)};
    char *bytes = malloc(READ);
    size_t have = 0;
    uint64_t before = 0, after = 0;
    assert_non_null(bytes);
    assert_int_equal(disk_do(disk, ops, 2), 0);
    lh_disk_close(disk, file);
    assert_int_equal(lh_disk_open(disk, "a", LH_DISK_OPEN_READ_EXACT, &file), 0);
    assert_int_equal(lh_disk_data(disk, file, 2 * READ, &before), 0);
    for (uint64_t offset = 0; offset < 2 * READ; offset += READ) {
        assert_int_equal(lh_disk_read(disk, file, bytes, READ, offset, &have), 0);
        assert_int_equal(have, READ);
    }
    assert_int_equal(lh_disk_data(disk, file, 2 * READ, &after), 0);
    assert_int_equal(after, before);
    lh_disk_close(disk, file);
    free(bytes);
}

static void failure_case(struct lh_disk *disk, struct lh_disk_op failing, int error)
{
    struct lh_disk_op ops[3] = {disk_sync_folder("."), failing, disk_unlink("keep")};
    lh_disk_close(disk, disk_make_file(disk, "keep", "x"));
    assert_int_equal(disk_do(disk, ops, 3), -error);
    assert_int_equal(ops[0].result, 0);
    assert_int_equal(ops[2].result, -ECANCELED);
    assert_true(disk_has(disk, "keep"));
}

/* Of each kind one that fails when it is tried, not when it is prepared: kernels do not break links
 * for most of them. */
static void every_kind_that_fails_cancels_what_is_behind_it(void **state)
{
    struct bench *bench = *state;
    struct lh_disk *disk = disk_of(state);
    int file = -1, unsyncable = -1;
    lh_disk_close(disk, disk_make_file(disk, "a", "x"));
    assert_int_equal(lh_disk_make_folder(disk, "folder"), 0);
    assert_int_equal(lh_disk_open(disk, "a", LH_DISK_OPEN_READ, &file), 0);
    failure_case(disk, disk_write(file, "y", 1, 0), EBADF);
    failure_case(disk, disk_allocate(file, 100, 0), EBADF);
    failure_case(disk, disk_rename("missing", "b"), ENOENT);
    failure_case(disk, disk_link("missing", "b"), ENOENT);
    failure_case(disk, disk_unlink("folder"), EISDIR);
    failure_case(disk, disk_sync_folder("missing"), ENOENT);
    failure_case(disk, disk_sync(-1), EBADF);
    if (bench->root[0] != '\0') {
        unsyncable = eventfd(0, EFD_CLOEXEC);
        failure_case(disk, disk_sync(unsyncable), EINVAL);
        close(unsyncable);
    } else {
        lh_sim_disk_fail((struct lh_sim_disk *)disk,
                         &(struct lh_sim_fault){.kinds = 1u << LH_DISK_SYNC, .error = EIO});
        failure_case(disk, disk_sync(file), EIO);
    }
    lh_disk_close(disk, file);
}

static void a_folder_that_is_missing_fails_in_its_turn_and_only_until_it_is_made(void **state)
{
    struct lh_disk *disk = disk_of(state);
    int file = disk_make_file(disk, "a", "x");
    struct lh_disk_op ops[3] = {disk_write(file, "y", 1, 0), disk_sync_folder("later"),
                                disk_unlink("a")};
    char text[8];
    assert_int_equal(disk_do(disk, ops, 3), -ENOENT);
    assert_int_equal(ops[0].result, 0);
    assert_true(disk_read_text(disk, "a", text, sizeof text));
    assert_string_equal(text, "y");
    assert_int_equal(lh_disk_make_folder(disk, "later"), 0);
    assert_int_equal(disk_do(disk, ops, 3), 0);
    lh_disk_close(disk, file);
}

/* ---- many, and order ---- */

#define CHAINS    2500u
#define CHAIN_OPS 4u

struct crowd {
    struct lh_disk *disk;
    struct lh_disk_op *ops; /* CHAINS chains of CHAIN_OPS, twice */
    unsigned next[CHAINS];
    unsigned ended;
    bool is_disordered;
};

static void crowd_done(struct lh_disk_op *op)
{
    struct crowd *crowd = op->arg;
    size_t number = (size_t)(op - crowd->ops);
    unsigned chain = (unsigned)(number / CHAIN_OPS) % CHAINS;
    if (op->result != 0 || number % CHAIN_OPS != crowd->next[chain]++ % CHAIN_OPS)
        crowd->is_disordered = true;
    crowd->ended++;
    if (number % CHAIN_OPS == CHAIN_OPS - 1 && number / CHAIN_OPS < CHAINS)
        lh_disk_submit(crowd->disk, &crowd->ops[(chain + CHAINS) * CHAIN_OPS]);
}

/* 10,000 operations at once, and as many from their callbacks. Each chain writes one cell four
 * times over: the last value shows the order on the disk, not only that of callbacks. */
static void many_chains_at_once_keep_their_order(void **state)
{
    struct crowd *crowd = calloc(1, sizeof *crowd);
    uint32_t *values = malloc(2 * CHAINS * CHAIN_OPS * sizeof *values);
    uint32_t got[CHAINS];
    size_t have = 0;
    int file = -1;
    assert_true(crowd != NULL && values != NULL);
    crowd->disk = disk_of(state);
    crowd->ops = calloc(2 * CHAINS * CHAIN_OPS, sizeof *crowd->ops);
    assert_non_null(crowd->ops);
    assert_int_equal(lh_disk_open(crowd->disk, "a", LH_DISK_OPEN_NEW, &file), 0);
    for (unsigned i = 0; i < 2 * CHAINS * CHAIN_OPS; i++) {
        values[i] = i;
        crowd->ops[i] =
            disk_write(file, &values[i], sizeof *values, (i / CHAIN_OPS) % CHAINS * sizeof *values);
        crowd->ops[i].done = crowd_done;
        crowd->ops[i].arg = crowd;
        if (i % CHAIN_OPS != CHAIN_OPS - 1)
            crowd->ops[i].next = &crowd->ops[i + 1];
    }
    for (unsigned i = 0; i < CHAINS; i++)
        lh_disk_submit(crowd->disk, &crowd->ops[i * CHAIN_OPS]);
    assert_int_equal(crowd->ended, 0);
    while (crowd->ended < 2 * CHAINS * CHAIN_OPS)
        lh_disk_run(crowd->disk, true);
    assert_false(crowd->is_disordered);
    assert_false(lh_disk_run(crowd->disk, false));
    assert_int_equal(lh_disk_read(crowd->disk, file, got, sizeof got, 0, &have), 0);
    for (unsigned i = 0; i < CHAINS; i++)
        assert_int_equal(got[i], (i + CHAINS) * CHAIN_OPS + CHAIN_OPS - 1);
    lh_disk_close(crowd->disk, file);
    free(crowd->ops);
    free(crowd);
    free(values);
}

static void the_longest_chain_is_one_chain(void **state)
{
    struct lh_disk *disk = disk_of(state);
    struct lh_disk_op ops[LH_DISK_CHAIN_OPS_MAX];
    char bytes[LH_DISK_CHAIN_OPS_MAX], got[LH_DISK_CHAIN_OPS_MAX + 1];
    size_t have = 0;
    int file = -1;
    memset(bytes, 'x', sizeof bytes);
    assert_int_equal(lh_disk_open(disk, "a", LH_DISK_OPEN_NEW, &file), 0);
    for (unsigned i = 0; i < LH_DISK_CHAIN_OPS_MAX; i++)
        ops[i] = disk_write(file, bytes, LH_DISK_CHAIN_OPS_MAX - i, i);
    assert_int_equal(disk_do(disk, ops, LH_DISK_CHAIN_OPS_MAX), 0);
    assert_int_equal(lh_disk_read(disk, file, got, sizeof got, 0, &have), 0);
    assert_int_equal(have, LH_DISK_CHAIN_OPS_MAX);
    lh_disk_close(disk, file);
}

static void nothing_to_do_is_told(void **state)
{
    struct lh_disk *disk = disk_of(state);
    assert_false(lh_disk_run(disk, false));
    lh_disk_wake(disk);
    assert_false(lh_disk_run(disk, true));
}

/* An operation on the heap that frees itself in its callback: the disk must not look at it again.
 */
static void free_done(struct lh_disk_op *op)
{
    unsigned *left = op->arg;
    (*left)--;
    memset(op, 0x5a, sizeof *op);
    free(op);
}

static void an_operation_may_be_gone_with_its_callback(void **state)
{
    struct lh_disk *disk = disk_of(state);
    unsigned left = 0;
    for (unsigned chain = 0; chain < 100; chain++) {
        struct lh_disk_op *first = NULL;
        for (unsigned i = 0; i < 4; i++) {
            struct lh_disk_op *op = malloc(sizeof *op);
            assert_non_null(op);
            *op = i == 2 && chain % 2 == 0 ? disk_rename("missing", "b") : disk_unlink("missing");
            op->done = free_done;
            op->arg = &left;
            op->next = first;
            first = op;
            left++;
        }
        lh_disk_submit(disk, first);
    }
    while (left > 0)
        lh_disk_run(disk, true);
}

/* ---- waking and owners ---- */

struct waker {
    struct lh_disk *disk;
    unsigned wakes;
    unsigned delay_us;
};

static void *wake_often(void *arg)
{
    struct waker *waker = arg;
    struct timespec delay = {.tv_nsec = waker->delay_us * 1000l};
    for (unsigned i = 0; i < waker->wakes; i++) {
        if (waker->delay_us > 0)
            nanosleep(&delay, NULL);
        lh_disk_wake(waker->disk);
    }
    return NULL;
}

static void a_sleeper_is_woken_from_another_thread(void **state)
{
    struct waker waker = {disk_of(state), 1, 20000};
    for (unsigned i = 0; i < 5; i++) {
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, wake_often, &waker), 0);
        assert_false(lh_disk_run(waker.disk, true)); /* else it sleeps for good */
        assert_int_equal(pthread_join(thread, NULL), 0);
    }
}

static void wakes_while_working_lose_nothing(void **state)
{
    struct waker waker = {disk_of(state), 2000, 0};
    pthread_t threads[3];
    uint64_t value = 0, got = 0;
    size_t have;
    int file = -1;
    assert_int_equal(lh_disk_open(waker.disk, "a", LH_DISK_OPEN_NEW, &file), 0);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, wake_often, &waker), 0);
    for (unsigned i = 0; i < 2000; i++) {
        value++;
        assert_int_equal(disk_do_one(waker.disk, disk_write(file, &value, sizeof value, 0)), 0);
    }
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(lh_disk_read(waker.disk, file, &got, sizeof got, 0, &have), 0);
    assert_int_equal(got, 2000);
    lh_disk_wake(waker.disk);
    lh_disk_run(waker.disk, true);
    lh_disk_close(waker.disk, file);
}

struct second_owner {
    struct lh_disk *disk;
    int file;
};

/* Sleeps until it is woken, and writes. */
static void *own(void *arg)
{
    struct second_owner *owner = arg;
    lh_disk_run(owner->disk, true);
    assert_int_equal(disk_do_one(owner->disk, disk_write(owner->file, "second", 6, 0)), 0);
    return NULL;
}

static void a_disk_may_be_handed_to_another_thread(void **state)
{
    struct second_owner owner = {disk_of(state), -1};
    struct waker waker = {owner.disk, 1, 20000};
    char text[16];
    owner.file = disk_make_file(owner.disk, "a", "first!");
    for (unsigned i = 0; i < 3; i++) {
        pthread_t thread;
        lh_disk_wake(owner.disk);
        lh_disk_run(owner.disk, true);
        assert_int_equal(pthread_create(&thread, NULL, own, &owner), 0);
        wake_often(&waker);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_true(disk_read_text(owner.disk, "a", text, sizeof text));
        assert_string_equal(text, "second");
        assert_int_equal(disk_do_one(owner.disk, disk_write(owner.file, "third.", 6, 0)), 0);
    }
    lh_disk_close(owner.disk, owner.file);
}

/* ---- calls that answer ---- */

static void files_open_as_they_are_asked_to(void **state)
{
    struct lh_disk *disk = disk_of(state);
    char text[16];
    int file = -1;
    assert_int_equal(lh_disk_open(disk, "a", LH_DISK_OPEN_READ, &file), -ENOENT);
    assert_int_equal(lh_disk_open(disk, "a", LH_DISK_OPEN_REUSE, &file), -ENOENT);
    assert_int_equal(lh_disk_open(disk, "none/a", LH_DISK_OPEN_NEW, &file), -ENOENT);
    lh_disk_close(disk, disk_make_file(disk, "a", "long text"));
    assert_int_equal(lh_disk_open(disk, "a", LH_DISK_OPEN_REUSE, &file), 0);
    assert_int_equal(disk_do_one(disk, disk_write(file, "LONG", 4, 0)), 0);
    lh_disk_close(disk, file);
    assert_true(disk_read_text(disk, "a", text, sizeof text));
    assert_string_equal(text, "LONG text");
    assert_int_equal(lh_disk_open(disk, "a", LH_DISK_OPEN_NEW, &file), 0);
    lh_disk_close(disk, file);
    assert_true(disk_read_text(disk, "a", text, sizeof text));
    assert_string_equal(text, "");
    assert_int_equal(lh_disk_open(disk, "a", LH_DISK_OPEN_READ, &file), 0);
    assert_int_equal(disk_do_one(disk, disk_write(file, "x", 1, 0)), -EBADF);
    lh_disk_close(disk, file);
}

struct listing {
    char text[256];
};

static void list_one(const char *name, uint64_t bytes, void *arg)
{
    struct listing *listing = arg;
    size_t used = strlen(listing->text);
    if (strcmp(name, "lock") != 0)
        snprintf(listing->text + used, sizeof listing->text - used, "%s:%llu ", name,
                 (unsigned long long)bytes);
}

static void a_folder_lists_its_names_and_sizes(void **state)
{
    struct lh_disk *disk = disk_of(state);
    struct listing listing = {""};
    assert_int_equal(lh_disk_list(disk, "none", list_one, &listing), 0);
    assert_string_equal(listing.text, "");
    assert_int_equal(lh_disk_make_folder(disk, "a/b/c"), 0);
    assert_int_equal(lh_disk_make_folder(disk, "a/b"), 0);
    lh_disk_close(disk, disk_make_file(disk, "a/b/file", "12345"));
    assert_int_equal(lh_disk_list(disk, ".", list_one, &listing), 0);
    assert_string_equal(listing.text, "a:0 ");
    listing.text[0] = '\0';
    assert_int_equal(lh_disk_list(disk, "a/b", list_one, &listing), 0);
    assert_true(strcmp(listing.text, "c:0 file:5 ") == 0 ||
                strcmp(listing.text, "file:5 c:0 ") == 0);
    assert_int_equal(lh_disk_list(disk, "a/b/file", list_one, &listing), -ENOTDIR);
    assert_int_equal(lh_disk_make_folder(disk, "a/b/file"), -ENOTDIR);
}

/* ---- splicing ---- */

static struct lh_disk_op disk_splice(int file, struct lh_pipe *pipe, size_t len, uint64_t offset)
{
    return (struct lh_disk_op){
        .kind = LH_DISK_SPLICE, .file = file, .into = pipe, .len = len, .offset = offset};
}

static void a_file_is_spliced_into_a_pipe(void **state)
{
    struct lh_disk *disk = disk_of(state);
    struct lh_pipe pipe = {0};
    char got[32];
    if (!lh_disk_splices(disk))
        skip(); /* no more is promised */
    assert_true(lh_pipe_open(&pipe, 65536));
    int file = disk_make_file(disk, "a", "0123456789");
    lh_disk_close(disk, file);
    assert_int_equal(lh_disk_open(disk, "a", LH_DISK_OPEN_READ, &file), 0);
    int rc = disk_do_one(disk, disk_splice(file, &pipe, 100, 3));
    if (has_no_threads) { /* it would keep the disk's owner waiting */
        assert_int_equal(rc, -EOPNOTSUPP);
        assert_int_equal(pipe.len, 0);
    } else {
        assert_int_equal(rc, 0);
        assert_int_equal(pipe.len, 7);
        assert_int_equal(lh_pipe_read(&pipe, got, sizeof got), 7);
        assert_memory_equal(got, "3456789", 7);
        assert_int_equal(disk_do_one(disk, disk_splice(file, &pipe, 100, 10)), 0);
        assert_int_equal(pipe.len, 0); /* the end */
        assert_int_equal(disk_do_one(disk, disk_splice(-1, &pipe, 100, 0)), -EBADF);
        assert_int_equal(pipe.len, 0);
    }
    lh_pipe_close(&pipe);
    lh_disk_close(disk, file);
}

/* ---- a write that does not fit ---- */

/* The kernel writes up to the limit and says so, then refuses the rest: the operation fails as a
 * whole, and with it what is behind it. */
static void a_short_write_goes_on_until_it_fails(void **state)
{
    struct bench *bench = *state;
    struct lh_disk *disk = disk_of(state);
    bool is_real = bench->root[0] != '\0';
    struct rlimit before, limit;
    struct lh_disk_op ops[3];
    char bytes[16384] = "x";
    uint64_t size = 0;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    int file = -1, rc;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(lh_disk_open(disk, "a.tmp", LH_DISK_OPEN_NEW, &file), 0);
    ops[0] = disk_write(file, bytes, sizeof bytes, 0);
    ops[1] = disk_sync(file);
    ops[2] = disk_rename("a.tmp", "a");
    limit = before;
    limit.rlim_cur = 10000;
    if (is_real)
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    else
        lh_sim_disk_set_space((struct lh_sim_disk *)disk, 10000);
    rc = disk_do(disk, ops, 3);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, handler);
    assert_int_equal(rc, is_real ? -EFBIG : -ENOSPC);
    assert_int_equal(ops[1].result, -ECANCELED);
    assert_int_equal(ops[2].result, -ECANCELED);
    assert_int_equal(lh_disk_size(disk, file, &size), 0);
    assert_int_equal(size, 10000); /* what there was room for is there: it was tried again */
    lh_disk_close(disk, file);
    assert_false(disk_has(disk, "a"));
}

#define ON(kind, f)                              \
    {                                            \
        kind ": " #f, f, set_up, tear_down, kind \
    }
#define ON_ALL_AND_WITHOUT_THREADS(f)                                                 \
    ON_ALL(f),                                                                        \
    {                                                                                 \
        "io_uring, no threads: " #f, f, set_up_without_threads, tear_down, "io_uring" \
    }
#define ON_ALL(f) ON("io_uring", f), ON("blocking", f), ON("simulated", f)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_ALL(what_is_written_is_read_back),
        ON_ALL_AND_WITHOUT_THREADS(a_file_is_replaced_by_one_chain),
        ON_ALL_AND_WITHOUT_THREADS(files_are_made_by_one_chain_each),
        ON_ALL_AND_WITHOUT_THREADS(a_failure_cancels_what_is_behind_it),
        ON_ALL(unlinking_what_is_not_there_fails_nothing),
        ON_ALL(a_file_is_linked_by_a_second_name),
        ON_ALL_AND_WITHOUT_THREADS(a_write_in_parts_is_whole_before_the_chain_goes_on),
        ON_ALL(allocating_grows_and_keeps),
        ON("io_uring", what_has_no_room_is_not_tried),
        ON("blocking", what_has_no_room_is_not_tried),
        ON_ALL(what_is_passed_over_as_no_data_is_zero),
        ON_ALL(reading_exactly_leaves_what_is_behind_as_it_was),
        ON_ALL_AND_WITHOUT_THREADS(every_kind_that_fails_cancels_what_is_behind_it),
        ON_ALL_AND_WITHOUT_THREADS(
            a_folder_that_is_missing_fails_in_its_turn_and_only_until_it_is_made),
        ON_ALL(many_chains_at_once_keep_their_order),
        ON_ALL(the_longest_chain_is_one_chain),
        ON_ALL(nothing_to_do_is_told),
        ON_ALL_AND_WITHOUT_THREADS(an_operation_may_be_gone_with_its_callback),
        ON_ALL(a_sleeper_is_woken_from_another_thread),
        ON_ALL(wakes_while_working_lose_nothing),
        ON_ALL(a_disk_may_be_handed_to_another_thread),
        ON_ALL(files_open_as_they_are_asked_to),
        ON_ALL(a_folder_lists_its_names_and_sizes),
        ON_ALL_AND_WITHOUT_THREADS(a_file_is_spliced_into_a_pipe),
        ON_ALL_AND_WITHOUT_THREADS(a_short_write_goes_on_until_it_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
