/* store/objects: power is cut before operations of random puts and deletes, some at the same time,
 * of keys some of which are folders of others. What was answered is there, what was under way is
 * there or not, and nothing else. */
#include "sim/disk_sim.h"
#include "store/objects.h"
#include "unit/seed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include <cmocka.h>

#define CRASH_POINTS_LEAST 3000u
#define BODY_BYTES_MAX     9000u
#define NOT_THERE          0u

static const char *const keys[] = {"a", "a/b", "a/b/c", "b", "100%", "d/e", "d/f", "d/g"};
#define KEYS (sizeof keys / sizeof *keys)

/* A key, and the one call that may be under way for it; or two, which both delete it. */
struct key {
    struct run *run;
    struct lh_str name;
    uint32_t answered; /* a version, or NOT_THERE */
    uint32_t wanted;   /* while it is under way */
    uint32_t out;
    uint32_t pieces_left;
    uint32_t sent;
    char body[BODY_BYTES_MAX];
    char given[32]; /* the path of a file that becomes the object */
    struct lh_disk_op write;
    struct lh_object_put put;
    struct lh_object_delete deletes[2];
};

struct run {
    struct lh_sim_disk *sim;
    struct lh_objects *objects;
    struct key keys[KEYS];
    uint64_t rng;
    uint32_t version;
    uint64_t points;
    uint64_t olds; /* of calls under way: what a crash left */
    uint64_t news;
};

/* ---- bodies: all of one follows from its version ---- */

static uint32_t body_length(uint32_t version)
{
    return version % 5 == 0 ? 0 : version * 2654435761u % BODY_BYTES_MAX;
}

static char body_byte(uint32_t version, uint32_t at)
{
    return at < 4 ? (char)(version >> (8 * at)) : (char)(version * 31 + at * 7);
}

static bool is_body(uint32_t version, const char *bytes, size_t len)
{
    if (version == NOT_THERE || len != body_length(version))
        return false;
    for (uint32_t i = 0; i < len; i++)
        if (bytes[i] != body_byte(version, i))
            return false;
    return true;
}

/* ---- calls ---- */

static void send_piece(struct key *key)
{
    uint32_t left = body_length(key->wanted) - key->sent;
    uint32_t len = --key->pieces_left == 0 ? left : lh_test_below(&key->run->rng, left + 1);
    key->put.piece = (struct lh_str){key->body + key->sent, len};
    key->put.is_last = key->pieces_left == 0;
    key->sent += len;
    lh_object_put(key->run->objects, &key->put);
}

static void put_done(struct lh_object_put *put)
{
    struct key *key = put->arg;
    if (put->own != NULL) {
        send_piece(key);
        return;
    }
    if (put->error.status != LH_OK)
        fail_msg("%s: %s", key->name.ptr, put->error.text);
    key->answered = key->wanted;
    key->out--;
}

static void deleted(struct lh_object_delete *delete_)
{
    struct key *key = delete_->arg;
    if (delete_->error.status != LH_OK)
        fail_msg("%s: %s", key->name.ptr, delete_->error.text);
    key->answered = NOT_THERE;
    key->out--;
}

static void begin_delete(struct run *run, struct key *key)
{
    struct lh_object_delete *delete_ = &key->deletes[key->deletes[0].own != NULL];
    key->out++;
    key->wanted = NOT_THERE;
    *delete_ = (struct lh_object_delete){.key = key->name, .done = deleted, .arg = key};
    lh_object_delete(run->objects, delete_);
}

static void given_written(struct lh_disk_op *op)
{
    struct key *key = op->arg;
    assert_int_equal(op->result, 0);
    lh_disk_close(lh_sim_disk_disk(key->run->sim), op->file);
    lh_object_put(key->run->objects, &key->put);
}

/* The body as a file of its own, not synced, which goes at the next start. */
static void put_file(struct key *key)
{
    struct lh_disk *disk = lh_sim_disk_disk(key->run->sim);
    XXH128_canonical_t hash;
    snprintf(key->given, sizeof key->given, "%%tmp/given-%u", key->wanted);
    XXH128_canonicalFromHash(&hash, XXH3_128bits(key->body, key->put.length));
    key->put.linked = key->given;
    memcpy(key->put.linked_hash, hash.digest, sizeof hash.digest);
    key->put.is_last = true;
    key->write = (struct lh_disk_op){.kind = LH_DISK_WRITE,
                                     .bytes = key->body,
                                     .len = key->put.length,
                                     .done = given_written,
                                     .arg = key};
    assert_int_equal(lh_disk_open(disk, key->given, LH_DISK_OPEN_NEW, &key->write.file), 0);
    lh_disk_submit(disk, &key->write);
}

static void begin(struct run *run, struct key *key)
{
    if (lh_test_below(&run->rng, 3) == 0) {
        begin_delete(run, key);
        return;
    }
    key->out++;
    key->wanted = ++run->version;
    key->sent = 0;
    key->pieces_left = 1 + lh_test_below(&run->rng, 3);
    for (uint32_t i = 0; i < body_length(key->wanted); i++)
        key->body[i] = body_byte(key->wanted, i);
    key->put = (struct lh_object_put){
        .key = key->name, .length = body_length(key->wanted), .done = put_done, .arg = key};
    if (lh_test_below(&run->rng, 3) == 0)
        put_file(key);
    else
        send_piece(key);
}

/* ---- what a new start finds ---- */

static void got(struct lh_object_get *get)
{
    *(bool *)get->arg = true;
}

static void wait_for(struct lh_disk *disk, bool *is_done)
{
    while (!*is_done)
        lh_disk_run(disk, false);
    *is_done = false;
}

/* Its length, or -1 when there is none. */
static ptrdiff_t read_object(struct lh_disk *disk, struct lh_objects *objects, struct lh_str name,
                             char body[BODY_BYTES_MAX + 1])
{
    bool is_done = false;
    struct lh_object_get get = {.key = name, .done = got, .arg = &is_done};
    lh_object_open(objects, &get);
    wait_for(disk, &is_done);
    if (get.error.status == LH_KEY_NOT_FOUND)
        return -1;
    if (get.error.status != LH_OK)
        fail_msg("%s: %s", name.ptr, get.error.text);
    assert_true(get.info.size <= BODY_BYTES_MAX);
    if (get.info.size > 0) {
        lh_object_read(&get, body, get.info.size, 0);
        wait_for(disk, &is_done);
        assert_int_equal(get.error.status, LH_OK);
        assert_int_equal(get.got, get.info.size);
    }
    lh_object_close(&get);
    return (ptrdiff_t)get.info.size;
}

static void no_name(const char *name, uint64_t bytes, void *arg)
{
    fail_msg("%%tmp has %s with %llu bytes", name, (unsigned long long)bytes);
    (void)arg;
}

static void check_key(struct run *run, struct key *key, const char *body, ptrdiff_t len)
{
    bool is_old = key->answered == NOT_THERE
                      ? len < 0
                      : len >= 0 && is_body(key->answered, body, (size_t)len);
    bool is_new =
        key->out > 0 &&
        (key->wanted == NOT_THERE ? len < 0 : len >= 0 && is_body(key->wanted, body, (size_t)len));
    if (!is_old && !is_new)
        fail_msg("%s: %td bytes, which are neither version %u nor %u%s", key->name.ptr, len,
                 key->answered, key->wanted, key->out > 0 ? "" : ", which was answered");
    run->olds += key->out > 0 && is_old;
    run->news += key->out > 0 && is_new;
}

static void crash_here(struct lh_sim_disk *sim, void *arg)
{
    struct run *run = arg;
    char body[BODY_BYTES_MAX + 1];
    struct lh_objects *objects;
    struct lh_error error;
    if (lh_test_below(&run->rng, 4) > 0)
        return;
    struct lh_sim_disk *copy = lh_sim_disk_copy(sim, lh_test_next(&run->rng));
    struct lh_disk *disk = lh_sim_disk_disk(copy);
    if (lh_test_below(&run->rng, 8) > 0) /* else: kill -9 */
        lh_sim_disk_crash(copy);
    if (lh_objects_create(disk, "root", &objects, &error) != LH_OK)
        fail_msg("%s", error.text);
    assert_int_equal(lh_disk_list(disk, "%tmp", no_name, NULL), 0);
    for (size_t i = 0; i < KEYS; i++) {
        ptrdiff_t len = read_object(disk, objects, run->keys[i].name, body);
        check_key(run, &run->keys[i], body, len);
    }
    lh_objects_destroy(objects);
    lh_disk_destroy(disk);
    run->points++;
}

static void answered_puts_and_deletes_survive_a_crash_at_any_operation(void **state)
{
    struct run *run = calloc(1, sizeof *run);
    struct lh_error error;
    assert_non_null(run);
    run->rng = lh_test_seed();
    run->sim = lh_sim_disk_create(lh_test_next(&run->rng));
    struct lh_disk *disk = lh_sim_disk_disk(run->sim);
    if (lh_objects_create(disk, "root", &run->objects, &error) != LH_OK)
        fail_msg("%s", error.text);
    for (size_t i = 0; i < KEYS; i++)
        run->keys[i] = (struct key){.run = run, .name = lh_str_of(keys[i])};
    lh_sim_disk_watch(run->sim, crash_here, run);
    while (run->points < CRASH_POINTS_LEAST) {
        struct key *key = &run->keys[lh_test_below(&run->rng, KEYS)];
        if (key->out == 0)
            begin(run, key);
        else if (key->out == 1 && key->wanted == NOT_THERE)
            begin_delete(run, key);
        for (uint32_t n = lh_test_below(&run->rng, 4); n > 0; n--)
            lh_disk_run(disk, false);
    }
    lh_sim_disk_watch(run->sim, NULL, NULL);
    bool is_under_way = true;
    while (is_under_way || !lh_objects_is_idle(run->objects)) {
        lh_disk_run(disk, false);
        is_under_way = false;
        for (size_t i = 0; i < KEYS; i++)
            is_under_way |= run->keys[i].out > 0;
    }
    print_message("%llu crashes; of calls under way %llu left the old, %llu the new\n",
                  (unsigned long long)run->points, (unsigned long long)run->olds,
                  (unsigned long long)run->news);
    assert_true(run->olds > 100 && run->news > 100); /* both did happen */
    lh_objects_destroy(run->objects);
    lh_disk_destroy(disk);
    free(run);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answered_puts_and_deletes_survive_a_crash_at_any_operation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
