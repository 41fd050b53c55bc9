/* actors/catalogd: its thread between a caller and a store that the test plays, so that answers of
 * the store come in the order that a test wants. */
#include "actors/catalogd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

/* The next reallocation to this size fails; 0: none does. */
static atomic_size_t failing_size;

void *__real_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size);

void *__wrap_realloc(void *old, size_t size)
{
    size_t failing = size;
    if (size != 0 && atomic_compare_exchange_strong(&failing_size, &failing, 0))
        return NULL;
    return __real_realloc(old, size);
}

struct scene {
    struct lh_log log;
    struct lh_actor store;  /* without a thread: the test's waits on it */
    struct lh_actor caller; /* so, too */
    struct lh_catalogd catalogd;
};

static struct lh_msg *next_of(struct lh_actor *actor)
{
    assert_true(lh_actor_wait(actor));
    struct lh_msg *msg = lh_actor_next(actor);
    assert_non_null(msg);
    return msg;
}

static struct lh_catalog_job *next_job(struct scene *scene, enum lh_catalog_job_kind kind)
{
    struct lh_catalog_job *job = (struct lh_catalog_job *)next_of(&scene->store);
    assert_int_equal(job->kind, kind);
    return job;
}

static void give_back(struct scene *scene, struct lh_catalog_job *job)
{
    job->head.lane = LH_LANE_EXPRESS;
    assert_int_equal(lh_actor_send(&scene->catalogd.actor, &job->head), LH_OK);
}

/* A catalog whose store has version 1 of "a", and its manifest still to be read: the job for that.
 */
static struct lh_catalog_job *start(struct scene *scene)
{
    struct lh_error error;
    scene->log = (struct lh_log){.fd = STDERR_FILENO, .level = {LH_LOG_ERROR}};
    lh_actor_init(&scene->store, "store", NULL, NULL);
    lh_actor_init(&scene->caller, "caller", NULL, NULL);
    lh_catalogd_init(&scene->catalogd, &scene->store, &scene->log);
    assert_int_equal(lh_actor_start(&scene->catalogd.actor, &error), LH_OK);
    struct lh_catalog_job *scan = next_job(scene, LH_CATALOG_SCAN);
    assert_int_equal(lh_catalog_job_add(scan, LH_STR("a"), 1), LH_OK);
    give_back(scene, scan);
    return next_job(scene, LH_CATALOG_READ);
}

static void stop(struct scene *scene)
{
    lh_actor_stop(&scene->catalogd.actor);
    lh_actor_join(&scene->catalogd.actor);
    while (lh_actor_poll(&scene->store))
        lh_catalog_job_destroy((struct lh_catalog_job *)lh_actor_next(&scene->store));
    lh_catalogd_deinit(&scene->catalogd);
    lh_actor_deinit(&scene->store);
    lh_actor_deinit(&scene->caller);
}

static void send(struct scene *scene, enum lh_catalog_op op, const char *name, const char *body)
{
    struct lh_catalog_call *call = lh_catalog_call_create(op, &scene->caller.mailbox);
    assert_non_null(call);
    strcpy(call->name, name);
    lh_buf_append_str(&call->body, lh_str_of(body));
    assert_int_equal(lh_actor_send(&scene->catalogd.actor, &call->head), LH_OK);
}

static enum lh_status answer(struct scene *scene)
{
    struct lh_catalog_call *call = (struct lh_catalog_call *)next_of(&scene->caller);
    enum lh_status status = call->error.status;
    lh_catalog_call_destroy(call);
    return status;
}

static enum lh_status ask(struct scene *scene, enum lh_catalog_op op, const char *name,
                          const char *body)
{
    send(scene, op, name, body);
    return answer(scene);
}

/* The manifest may be asked for again meanwhile: it is gone. */
static struct lh_catalog_job *next_scan(struct scene *scene)
{
    struct lh_catalog_job *job = (struct lh_catalog_job *)next_of(&scene->store);
    if (job->kind == LH_CATALOG_READ) {
        job->versions[0].error.status = LH_KEY_NOT_FOUND;
        give_back(scene, job);
        return next_job(scene, LH_CATALOG_SCAN);
    }
    assert_int_equal(job->kind, LH_CATALOG_SCAN);
    return job;
}

/* Another catalog has deleted it, too: the manifest is gone, and then the store fails. */
static void a_dataset_that_goes_while_it_is_deleted_is_looked_at_again(void **state)
{
    struct scene scene;
    struct lh_catalog_job *read = start(&scene);
    send(&scene, LH_CATALOG_DELETE, "a", "");
    struct lh_catalog_job *erase = next_job(&scene, LH_CATALOG_ERASE);
    read->versions[0].error.status = LH_KEY_NOT_FOUND;
    give_back(&scene, read);
    lh_error_set(&erase->error, LH_BAD_GATEWAY, "the store is away");
    give_back(&scene, erase);
    assert_int_equal(answer(&scene), LH_BAD_GATEWAY);
    /* Its tombstone may stand: a version that is registered now would go with it. */
    struct lh_catalog_job *scan = next_scan(&scene);
    assert_string_equal(scan->name, "a");
    assert_int_equal(ask(&scene, LH_CATALOG_REGISTER, "",
                         "{\"name\":\"a\",\"fingerprint\":\"f\",\"mode\":\"replace\","
                         "\"objects\":[{\"key\":\"k\",\"size\":1}]}"),
                     LH_DATASET_LOADING);
    give_back(&scene, scan);
    assert_int_equal(ask(&scene, LH_CATALOG_GET, "a", ""), LH_DATASET_NOT_FOUND);
    stop(&scene);
}

static void a_registration_without_memory_leaves_no_dataset(void **state)
{
    static const char body[] = "{\"name\":\"b\",\"fingerprint\":\"f\","
                               "\"objects\":[{\"key\":\"k\",\"size\":1}]}";
    struct scene scene;
    lh_catalog_job_destroy(start(&scene));
    atomic_store(&failing_size, 2 * sizeof(uint64_t)); /* room for its first versions */
    assert_int_equal(ask(&scene, LH_CATALOG_REGISTER, "", body), LH_OUT_OF_MEMORY);
    assert_int_equal(atomic_load(&failing_size), 0);
    assert_int_equal(ask(&scene, LH_CATALOG_DELETE, "b", ""), LH_DATASET_NOT_FOUND);
    send(&scene, LH_CATALOG_REGISTER, "", body);
    give_back(&scene, next_job(&scene, LH_CATALOG_WRITE));
    assert_int_equal(answer(&scene), LH_OK);
    assert_int_equal(ask(&scene, LH_CATALOG_GET, "b", ""), LH_OK);
    stop(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_dataset_that_goes_while_it_is_deleted_is_looked_at_again),
        cmocka_unit_test(a_registration_without_memory_leaves_no_dataset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
