/* tests/sim/disk_sim: a simulator that forgives what real disks do not would make every test above
 * it worthless: what it may and must lose, and that it replays. */
#include "disk_help.h"

#include "seed.h"
#include "sim/disk_sim.h"

#include <errno.h>

#define SECTOR 512
#define TRIES  2000u

/* Makes "a" with `old` durable in `len` bytes, and then writes `new` over it. */
static int overwritten(struct lh_disk *disk, size_t len, bool synced)
{
    char bytes[8 * SECTOR];
    struct lh_disk_op ops[3];
    int file = -1;
    memset(bytes, 'o', sizeof bytes);
    assert_int_equal(lh_disk_open(disk, "a", LH_DISK_OPEN_NEW, &file), 0);
    ops[0] = disk_write(file, bytes, len, 0);
    ops[1] = disk_sync(file);
    ops[2] = disk_sync_folder(".");
    assert_int_equal(disk_do(disk, ops, 3), 0);
    memset(bytes, 'n', sizeof bytes);
    ops[0] = disk_write(file, bytes, len, 0);
    ops[1] = disk_sync(file);
    assert_int_equal(disk_do(disk, ops, synced ? 2 : 1), 0);
    return file;
}

static struct lh_sim_disk *crashed_copy(const struct lh_sim_disk *sim, uint64_t seed)
{
    struct lh_sim_disk *copy = lh_sim_disk_copy(sim, seed);
    lh_sim_disk_crash(copy);
    return copy;
}

/* ---- bytes ---- */

/* Over many crashes every outcome comes: each sector old, new and torn, and the sectors apart. */
static void an_unsynced_write_is_kept_lost_and_torn(void **state)
{
    struct lh_sim_disk *sim = lh_sim_disk_create(lh_test_seed());
    unsigned all_old = 0, all_new = 0, torn = 0, apart = 0, strange = 0;
    overwritten(lh_sim_disk_disk(sim), 4 * SECTOR, false);
    for (unsigned i = 0; i < TRIES; i++) {
        struct lh_sim_disk *copy = crashed_copy(sim, i);
        char text[4 * SECTOR + 2];
        unsigned whole[2] = {0}, mixed = 0;
        assert_true(disk_read_text(lh_sim_disk_disk(copy), "a", text, sizeof text));
        assert_int_equal(strlen(text), 4 * SECTOR);
        for (unsigned sector = 0; sector < 4; sector++) {
            unsigned fresh = 0;
            for (unsigned k = 0; k < SECTOR; k++) {
                char byte = text[sector * SECTOR + k];
                fresh += byte == 'n';
                strange += byte != 'n' && byte != 'o';
            }
            mixed += fresh > 0 && fresh < SECTOR;
            whole[fresh > 0] += fresh == 0 || fresh == SECTOR;
        }
        all_old += whole[0] == 4;
        all_new += whole[1] == 4;
        torn += mixed > 0;
        apart += whole[0] > 0 && whole[1] > 0;
        lh_disk_destroy(lh_sim_disk_disk(copy));
    }
    assert_int_equal(strange, 0);
    assert_in_range(all_old, TRIES / 20, TRIES);
    assert_in_range(all_new, TRIES / 50, TRIES);
    assert_in_range(torn, TRIES / 20, TRIES);
    assert_in_range(apart, TRIES / 20, TRIES);
    lh_disk_destroy(lh_sim_disk_disk(sim));
}

static void a_synced_write_is_never_lost(void **state)
{
    struct lh_sim_disk *sim = lh_sim_disk_create(lh_test_seed());
    int file = overwritten(lh_sim_disk_disk(sim), 2 * SECTOR, true);
    /* And what comes behind it does not touch it. */
    assert_int_equal(disk_do_one(lh_sim_disk_disk(sim), disk_write(file, "tail", 4, 2 * SECTOR)),
                     0);
    for (unsigned i = 0; i < TRIES; i++) {
        struct lh_sim_disk *copy = crashed_copy(sim, i);
        char text[4 * SECTOR];
        assert_true(disk_read_text(lh_sim_disk_disk(copy), "a", text, sizeof text));
        for (unsigned k = 0; k < 2 * SECTOR; k++)
            assert_int_equal(text[k], 'n');
        lh_disk_destroy(lh_sim_disk_disk(copy));
    }
    lh_disk_destroy(lh_sim_disk_disk(sim));
}

static void a_grown_file_may_be_short_or_have_holes(void **state)
{
    struct lh_sim_disk *sim = lh_sim_disk_create(lh_test_seed());
    struct lh_disk *disk = lh_sim_disk_disk(sim);
    unsigned empty = 0, whole = 0, between = 0, holes = 0;
    int file = -1;
    char bytes[4 * SECTOR];
    memset(bytes, 'n', sizeof bytes);
    assert_int_equal(lh_disk_open(disk, "a", LH_DISK_OPEN_NEW, &file), 0);
    assert_int_equal(disk_do_one(disk, disk_sync_folder(".")), 0);
    assert_int_equal(disk_do_one(disk, disk_write(file, bytes, sizeof bytes, 0)), 0);
    for (unsigned i = 0; i < TRIES; i++) {
        struct lh_sim_disk *copy = crashed_copy(sim, i);
        uint64_t size = 0;
        size_t got = 0;
        assert_int_equal(lh_disk_open(lh_sim_disk_disk(copy), "a", LH_DISK_OPEN_READ, &file), 0);
        assert_int_equal(lh_disk_size(lh_sim_disk_disk(copy), file, &size), 0);
        assert_int_equal(lh_disk_read(lh_sim_disk_disk(copy), file, bytes, sizeof bytes, 0, &got),
                         0);
        assert_int_equal(got, size);
        empty += size == 0;
        holes += got > 0 && memchr(bytes, 0, got) != NULL;
        whole += size == sizeof bytes;
        between += size > 0 && size < sizeof bytes;
        lh_disk_destroy(lh_sim_disk_disk(copy));
    }
    assert_in_range(empty, TRIES / 20, TRIES);
    assert_in_range(holes, TRIES / 20, TRIES);
    assert_in_range(whole, TRIES / 20, TRIES);
    assert_in_range(between, TRIES / 50, TRIES);
    lh_disk_destroy(disk);
}

/* ---- names ---- */

/* The chain of a checkpoint without its last link: the new file or the old one, never neither. */
static void a_rename_is_there_or_not_and_is_sure_behind_its_folders_sync(void **state)
{
    for (unsigned synced = 0; synced < 2; synced++) {
        struct lh_sim_disk *sim = lh_sim_disk_create(lh_test_seed());
        struct lh_disk *disk = lh_sim_disk_disk(sim);
        struct lh_disk_op ops[4];
        unsigned old = 0, fresh = 0, leftovers = 0;
        int file = overwritten(disk, 16, true);
        assert_int_equal(lh_disk_open(disk, "b", LH_DISK_OPEN_NEW, &file), 0);
        ops[0] = disk_write(file, "new", 3, 0);
        ops[1] = disk_sync(file);
        ops[2] = disk_rename("b", "a");
        ops[3] = disk_sync_folder(".");
        assert_int_equal(disk_do(disk, ops, synced ? 4 : 3), 0);
        for (unsigned i = 0; i < TRIES; i++) {
            struct lh_sim_disk *copy = crashed_copy(sim, i);
            char text[32];
            assert_true(disk_read_text(lh_sim_disk_disk(copy), "a", text, sizeof text));
            if (strcmp(text, "new") == 0)
                fresh++;
            else if (strcmp(text, "nnnnnnnnnnnnnnnn") == 0)
                old++;
            if (disk_has(lh_sim_disk_disk(copy), "b")) {
                leftovers++;
                assert_string_not_equal(text, "new"); /* one file has not two names */
            }
            lh_disk_destroy(lh_sim_disk_disk(copy));
        }
        assert_int_equal(old + fresh, TRIES);
        assert_in_range(old, synced ? 0 : TRIES / 10, synced ? 0 : TRIES);
        assert_in_range(fresh, TRIES / 10, TRIES);
        assert_in_range(leftovers, synced ? 0 : TRIES / 20, synced ? 0 : TRIES);
        lh_disk_destroy(disk);
    }
}

static void a_name_without_its_files_sync_may_have_no_bytes(void **state)
{
    struct lh_sim_disk *sim = lh_sim_disk_create(lh_test_seed());
    struct lh_disk *disk = lh_sim_disk_disk(sim);
    unsigned empty = 0;
    disk_make_file(disk, "b", "bytes");
    struct lh_disk_op ops[2] = {disk_rename("b", "a"), disk_sync_folder(".")};
    assert_int_equal(disk_do(disk, ops, 2), 0);
    for (unsigned i = 0; i < TRIES; i++) {
        struct lh_sim_disk *copy = crashed_copy(sim, i);
        char text[32];
        assert_true(disk_read_text(lh_sim_disk_disk(copy), "a", text, sizeof text));
        empty += text[0] == '\0';
        lh_disk_destroy(lh_sim_disk_disk(copy));
    }
    assert_in_range(empty, TRIES / 10, TRIES);
    lh_disk_destroy(disk);
}

static void a_files_sync_says_nothing_about_its_name(void **state)
{
    struct lh_sim_disk *sim = lh_sim_disk_create(lh_test_seed());
    struct lh_disk *disk = lh_sim_disk_disk(sim);
    unsigned gone[3] = {0}, only_second = 0;
    int file;
    assert_int_equal(lh_disk_make_folder(disk, "wal"), 0);
    file = disk_make_file(disk, "wal/1", "x");
    assert_int_equal(disk_do_one(disk, disk_sync(file)), 0);
    file = disk_make_file(disk, "2", "x");
    assert_int_equal(disk_do_one(disk, disk_sync(file)), 0);
    assert_int_equal(disk_do_one(disk, disk_sync_folder("wal")), 0);
    for (unsigned i = 0; i < TRIES; i++) {
        struct lh_sim_disk *copy = crashed_copy(sim, i);
        bool first = disk_has(lh_sim_disk_disk(copy), "wal/1");
        bool second = disk_has(lh_sim_disk_disk(copy), "2");
        gone[0] += !first; /* with its folder, whose own name was not synced */
        gone[1] += !second;
        gone[2] += !first && !second;
        only_second += second && !first;
        lh_disk_destroy(lh_sim_disk_disk(copy));
    }
    for (unsigned i = 0; i < 3; i++)
        assert_in_range(gone[i], TRIES / 20, TRIES);
    assert_in_range(only_second, TRIES / 20, TRIES); /* names are lost out of order */
    assert_int_equal(disk_do_one(disk, disk_sync_folder(".")), 0);
    for (unsigned i = 0; i < TRIES; i++) {
        struct lh_sim_disk *copy = crashed_copy(sim, i);
        assert_true(disk_has(lh_sim_disk_disk(copy), "wal/1"));
        assert_true(disk_has(lh_sim_disk_disk(copy), "2"));
        lh_disk_destroy(lh_sim_disk_disk(copy));
    }
    lh_disk_destroy(disk);
}

/* What was synced in the new one stays with it; what was in the old one has gone, synced or not. */
static void a_folder_that_is_made_again_is_another(void **state)
{
    struct lh_sim_disk *sim = lh_sim_disk_create(lh_test_seed());
    struct lh_disk *disk = lh_sim_disk_disk(sim);
    const struct lh_disk_op make = {.kind = LH_DISK_MAKE_FOLDER, .path = "d"};
    unsigned olds = 0, news = 0;
    assert_int_equal(disk_do_one(disk, make), 0);
    disk_make_file(disk, "d/old", "x");
    struct lh_disk_op open = {
        .kind = LH_DISK_OPEN, .path = "d", .how = LH_DISK_OPEN_FOLDER, .result = 1};
    assert_int_equal(disk_do(disk, &open, 1), 0);
    assert_int_equal(disk_do_one(disk, disk_sync_folder("d")), 0);
    assert_int_equal(disk_do_one(disk, disk_sync_folder(".")), 0);
    assert_int_equal(disk_do_one(disk, disk_unlink("d/old")), 0);
    assert_int_equal(
        disk_do_one(disk, (struct lh_disk_op){.kind = LH_DISK_REMOVE_FOLDER, .path = "d"}), 0);
    assert_int_equal(disk_do_one(disk, make), 0);
    disk_make_file(disk, "d/new", "x");
    for (unsigned synced = 0; synced < 3; synced++) {
        if (synced == 1) /* of the old one, which is still open */
            assert_int_equal(
                disk_do_one(disk, (struct lh_disk_op){.kind = LH_DISK_SYNC_ALL, .file = open.file}),
                0);
        if (synced == 2)
            assert_int_equal(disk_do_one(disk, disk_sync_folder("d")), 0);
        unsigned lost = 0;
        for (unsigned i = 0; i < TRIES; i++) {
            struct lh_sim_disk *copy = crashed_copy(sim, i);
            bool old = disk_has(lh_sim_disk_disk(copy), "d/old");
            bool fresh = disk_has(lh_sim_disk_disk(copy), "d/new");
            assert_false(old && fresh);
            olds += old;
            news += fresh;
            lost += !fresh;
            lh_disk_destroy(lh_sim_disk_disk(copy));
        }
        assert_in_range(lost, TRIES / 20, TRIES); /* with the new one's own name */
    }
    assert_in_range(olds, TRIES / 10, 3 * TRIES);
    assert_in_range(news, TRIES / 10, 3 * TRIES);
    assert_int_equal(disk_do_one(disk, disk_sync_folder(".")), 0);
    for (unsigned i = 0; i < TRIES; i++) {
        struct lh_sim_disk *copy = crashed_copy(sim, i);
        assert_false(disk_has(lh_sim_disk_disk(copy), "d/old"));
        assert_true(disk_has(lh_sim_disk_disk(copy), "d/new"));
        lh_disk_destroy(lh_sim_disk_disk(copy));
    }
    lh_disk_destroy(disk);
}

/* ---- crashing ---- */

static void count_done(struct lh_disk_op *op)
{
    (*(unsigned *)op->arg)++;
}

static void after_the_crash_nobody_is_told_and_nothing_is_done(void **state)
{
    uint64_t seed = lh_test_seed();
    for (unsigned after = 0; after < 4; after++) {
        struct lh_sim_disk *sim = lh_sim_disk_create(seed + after);
        struct lh_disk *disk = lh_sim_disk_disk(sim);
        int file = disk_make_file(disk, "a", "0"), other = -1;
        struct lh_disk_op ops[4] = {disk_write(file, "1", 1, 0), disk_sync(file),
                                    disk_rename("a", "b"), disk_sync_folder(".")};
        unsigned told = 0;
        size_t got;
        char byte;
        for (unsigned i = 0; i < 4; i++) {
            ops[i].done = count_done;
            ops[i].arg = &told;
            ops[i].next = i < 3 ? &ops[i + 1] : NULL;
        }
        lh_sim_disk_crash_after(sim, after);
        lh_disk_submit(disk, ops);
        while (!lh_sim_disk_is_crashed(sim))
            lh_disk_run(disk, true);
        assert_int_equal(told, after);
        assert_false(lh_disk_run(disk, true)); /* does not sleep for good either */
        assert_int_equal(lh_disk_open(disk, "c", LH_DISK_OPEN_NEW, &other), -EIO);
        assert_int_equal(lh_disk_read(disk, file, &byte, 1, 0, &got), -EIO);
        assert_int_equal(lh_disk_make_folder(disk, "d"), -EIO);
        lh_sim_disk_crash(sim);
        assert_false(disk_has(disk, "c"));
        lh_disk_close(disk, file); /* the crash has: no harm */
        assert_int_equal(disk_do_one(disk, disk_write(file, "1", 1, 0)), -EBADF);
        assert_int_equal(told, after);
        lh_disk_close(disk, disk_make_file(disk, "c", "works again"));
        lh_disk_destroy(disk);
    }
}

static void opens_that_change_the_disk_count_as_operations(void **state)
{
    struct lh_sim_disk *sim = lh_sim_disk_create(lh_test_seed());
    struct lh_disk *disk = lh_sim_disk_disk(sim);
    int file = -1;
    assert_int_equal(lh_disk_open(disk, "a", LH_DISK_OPEN_NEW, &file), 0);
    assert_int_equal(lh_sim_disk_operations(sim), 1);
    assert_int_equal(lh_disk_open(disk, "a", LH_DISK_OPEN_REUSE, &file), 0);
    assert_int_equal(lh_disk_open(disk, "a", LH_DISK_OPEN_READ, &file), 0);
    assert_int_equal(lh_sim_disk_operations(sim), 1);
    assert_int_equal(lh_disk_make_folder(disk, "b"), 0);
    assert_int_equal(lh_disk_make_folder(disk, "b"), 0);
    assert_int_equal(lh_sim_disk_operations(sim), 2);
    lh_sim_disk_crash_after(sim, 0);
    assert_int_equal(lh_disk_open(disk, "a", LH_DISK_OPEN_NEW, &file), -EIO);
    assert_true(lh_sim_disk_is_crashed(sim));
    lh_disk_destroy(disk);
}

/* ---- faults ---- */

static void a_fault_meets_its_operation_alone(void **state)
{
    struct lh_sim_disk *sim = lh_sim_disk_create(lh_test_seed());
    struct lh_disk *disk = lh_sim_disk_disk(sim);
    int file = disk_make_file(disk, "a", "0");
    lh_sim_disk_fail(sim, &(struct lh_sim_fault){.after = 1, .error = EIO});
    assert_int_equal(disk_do_one(disk, disk_sync(file)), 0);
    assert_int_equal(disk_do_one(disk, disk_sync_folder(".")), -EIO);
    assert_int_equal(disk_do_one(disk, disk_sync_folder(".")), 0);
    lh_sim_disk_fail(sim, &(struct lh_sim_fault){.kinds = 1u << LH_DISK_RENAME | LH_SIM_OPENS,
                                                 .error = EROFS,
                                                 .lasts = true});
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(disk_do_one(disk, disk_rename("a", "b")), -EROFS);
        assert_int_equal(lh_disk_open(disk, "c", LH_DISK_OPEN_NEW, &file), -EROFS);
        assert_int_equal(lh_disk_make_folder(disk, "d"), -EROFS);
        assert_int_equal(disk_do_one(disk, disk_unlink("none")), 0);
    }
    assert_true(disk_has(disk, "a"));
    lh_sim_disk_clear_fault(sim);
    assert_int_equal(disk_do_one(disk, disk_rename("a", "b")), 0);
    lh_disk_destroy(disk);
}

static void a_failed_sync_loses_bytes_that_no_later_sync_brings_back(void **state)
{
    unsigned lost = 0;
    uint64_t seed = lh_test_seed();
    for (unsigned i = 0; i < 200; i++) {
        struct lh_sim_disk *sim = lh_sim_disk_create(seed + i);
        struct lh_disk *disk = lh_sim_disk_disk(sim);
        int file = overwritten(disk, SECTOR, false);
        char text[SECTOR + 1], want[SECTOR + 1] = "";
        memset(want, 'n', SECTOR);
        lh_sim_disk_fail(sim, &(struct lh_sim_fault){.kinds = 1u << LH_DISK_SYNC, .error = EIO});
        assert_int_equal(disk_do_one(disk, disk_sync(file)), -EIO);
        assert_int_equal(disk_do_one(disk, disk_sync(file)), 0);
        assert_true(disk_read_text(disk, "a", text, sizeof text));
        assert_string_equal(text, want); /* the cache still has it */
        lh_sim_disk_crash(sim);
        assert_true(disk_read_text(disk, "a", text, sizeof text));
        lost += strcmp(text, want) != 0;
        lh_disk_destroy(disk);
    }
    assert_in_range(lost, 20, 190);
}

static void space_ends_and_comes_back(void **state)
{
    struct lh_sim_disk *sim = lh_sim_disk_create(lh_test_seed());
    struct lh_disk *disk = lh_sim_disk_disk(sim);
    int file = disk_make_file(disk, "a", "0123456789"), other = disk_make_file(disk, "b", "");
    uint64_t size = 0;
    lh_sim_disk_set_space(sim, 16);
    assert_int_equal(disk_do_one(disk, disk_write(file, "XXXX", 4, 0)), 0); /* needs no more */
    assert_int_equal(disk_do_one(disk, disk_allocate(other, 7, 0)), -ENOSPC);
    assert_int_equal(disk_do_one(disk, disk_write(other, "1234567", 7, 0)), -ENOSPC);
    assert_int_equal(lh_disk_size(disk, other, &size), 0);
    assert_int_equal(size, 6);
    assert_int_equal(disk_do_one(disk, disk_unlink("a")), 0);
    assert_int_equal(disk_do_one(disk, disk_write(other, "7", 1, 6)), -ENOSPC); /* still open */
    lh_disk_close(disk, file);
    assert_int_equal(disk_do_one(disk, disk_write(other, "7", 1, 6)), 0);
    lh_disk_destroy(disk);
}

static void a_rotten_byte_is_rotten_for_good(void **state)
{
    struct lh_sim_disk *sim = lh_sim_disk_create(lh_test_seed());
    struct lh_disk *disk = lh_sim_disk_disk(sim);
    struct lh_disk_op ops[2] = {disk_sync(disk_make_file(disk, "a", "abc")), disk_sync_folder(".")};
    char text[8];
    assert_int_equal(disk_do(disk, ops, 2), 0);
    assert_int_equal(lh_sim_disk_rot(sim, "a", 3, 1), -EINVAL);
    assert_int_equal(lh_sim_disk_rot(sim, "b", 0, 1), -ENOENT);
    assert_int_equal(lh_sim_disk_rot(sim, "a", 1, 1), 0);
    for (unsigned i = 0; i < 2; i++) {
        assert_true(disk_read_text(disk, "a", text, sizeof text));
        assert_string_equal(text, "acc");
        lh_sim_disk_crash(sim);
    }
    lh_disk_destroy(disk);
}

/* ---- copies, order, replay ---- */

struct watch {
    unsigned calls;
    unsigned kept; /* copies in which the file was there */
};

static void watch_one(struct lh_sim_disk *sim, void *arg)
{
    struct watch *watch = arg;
    struct lh_sim_disk *copy = lh_sim_disk_copy(sim, watch->calls);
    assert_int_equal(lh_sim_disk_operations(sim), watch->calls);
    watch->calls++;
    watch->kept += disk_has(lh_sim_disk_disk(copy), "a");
    lh_sim_disk_crash(copy);
    lh_disk_close(lh_sim_disk_disk(copy), disk_make_file(lh_sim_disk_disk(copy), "a", "other"));
    lh_disk_destroy(lh_sim_disk_disk(copy));
}

static void a_watcher_sees_every_operation_and_its_copies_change_nothing(void **state)
{
    struct lh_sim_disk *sim = lh_sim_disk_create(lh_test_seed());
    struct lh_disk *disk = lh_sim_disk_disk(sim);
    struct watch watch = {0};
    char text[8];
    lh_sim_disk_watch(sim, watch_one, &watch);
    int file = disk_make_file(disk, "a", "abc");
    assert_int_equal(disk_do_one(disk, disk_sync(file)), 0);
    assert_int_equal(disk_do_one(disk, disk_write(file, "d", 1, 3)), 0);
    assert_int_equal(disk_do_one(disk, disk_unlink("b")), 0);
    assert_int_equal(watch.calls, lh_sim_disk_operations(sim));
    assert_int_equal(watch.kept, watch.calls - 1);
    assert_true(disk_read_text(disk, "a", text, sizeof text));
    assert_string_equal(text, "abcd");
    lh_disk_destroy(disk);
}

#define RACERS 8u

/* Chains that write one byte each to one place: the order in which they end, and a hash of what a
 * crash leaves of it all. */
static void race(uint64_t seed, unsigned order[RACERS], uint64_t *hash)
{
    struct lh_sim_disk *sim = lh_sim_disk_create(seed);
    struct lh_disk *disk = lh_sim_disk_disk(sim);
    struct lh_disk_op ops[RACERS];
    char bytes[RACERS][3 * SECTOR], text[4 * SECTOR] = "";
    unsigned ended[RACERS] = {0}, left = RACERS, place = 0;
    int file = overwritten(disk, 2 * SECTOR, true);
    for (unsigned i = 0; i < RACERS; i++) {
        memset(bytes[i], 'a' + (int)i, sizeof bytes[i]);
        ops[i] = disk_write(file, bytes[i], sizeof bytes[i], i);
        ops[i].done = count_done;
        ops[i].arg = &ended[i];
        lh_disk_submit(disk, &ops[i]);
    }
    while (left > 0) {
        lh_disk_run(disk, true);
        for (unsigned i = 0; i < RACERS; i++)
            if (ended[i] == 1) {
                ended[i] = 2;
                order[place++] = i;
                left--;
            }
    }
    lh_sim_disk_crash(sim);
    assert_true(disk_read_text(disk, "a", text, sizeof text));
    *hash = 14695981039346656037ull; /* FNV-1a */
    for (size_t i = 0; text[i] != '\0'; i++)
        *hash = (*hash ^ (uint8_t)text[i]) * 1099511628211ull;
    lh_disk_destroy(disk);
}

static void one_seed_replays_everything_and_another_does_not(void **state)
{
    uint64_t seed = lh_test_seed(), hash[3];
    unsigned order[3][RACERS], other_orders = 0, other_hashes = 0;
    for (unsigned i = 0; i < 50; i++) {
        race(seed + i, order[0], &hash[0]);
        race(seed + i, order[1], &hash[1]);
        race(seed + i + 1, order[2], &hash[2]);
        assert_memory_equal(order[0], order[1], sizeof order[0]);
        assert_true(hash[0] == hash[1]);
        other_orders += memcmp(order[0], order[2], sizeof order[0]) != 0;
        other_hashes += hash[0] != hash[2];
    }
    assert_in_range(other_orders, 25, 50);
    assert_in_range(other_hashes, 25, 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_unsynced_write_is_kept_lost_and_torn),
        cmocka_unit_test(a_synced_write_is_never_lost),
        cmocka_unit_test(a_grown_file_may_be_short_or_have_holes),
        cmocka_unit_test(a_rename_is_there_or_not_and_is_sure_behind_its_folders_sync),
        cmocka_unit_test(a_name_without_its_files_sync_may_have_no_bytes),
        cmocka_unit_test(a_files_sync_says_nothing_about_its_name),
        cmocka_unit_test(a_folder_that_is_made_again_is_another),
        cmocka_unit_test(after_the_crash_nobody_is_told_and_nothing_is_done),
        cmocka_unit_test(opens_that_change_the_disk_count_as_operations),
        cmocka_unit_test(a_fault_meets_its_operation_alone),
        cmocka_unit_test(a_failed_sync_loses_bytes_that_no_later_sync_brings_back),
        cmocka_unit_test(space_ends_and_comes_back),
        cmocka_unit_test(a_rotten_byte_is_rotten_for_good),
        cmocka_unit_test(a_watcher_sees_every_operation_and_its_copies_change_nothing),
        cmocka_unit_test(one_seed_replays_everything_and_another_does_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
