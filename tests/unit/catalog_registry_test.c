/* actors/catalog_registry: names in order, versions, and what a registration makes of a dataset. */
#include "actors/catalog_registry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* One object a registration, whose key is its fingerprint. */
static struct lh_manifest *ask(const char *fingerprint, const char *schema, int64_t rows)
{
    struct lh_manifest_object object = {lh_str_of(fingerprint), 1, lh_str_of(fingerprint)};
    struct lh_manifest shape = {.name = LH_STR("people"),
                                .fingerprint = lh_str_of(fingerprint),
                                .objects = &object,
                                .count = 1,
                                .schema_json = lh_str_of(schema),
                                .has_row_count = rows >= 0,
                                .row_count = rows >= 0 ? (uint64_t)rows : 0};
    struct lh_manifest *made = lh_manifest_create(&shape);
    assert_non_null(made);
    return made;
}

#define SCHEMA "[{\"name\":\"a\",\"type\":\"BIGINT\"}]"

/* Registers, and takes over what comes of it as catalogd does. */
static enum lh_status registers(struct lh_dataset *dataset, const char *fingerprint,
                                enum lh_register_mode mode, bool *is_new, struct lh_error *error)
{
    struct lh_manifest *asked = ask(fingerprint, SCHEMA, 10);
    struct lh_manifest *next;
    enum lh_status status = lh_dataset_decide(dataset->version_count > 0 ? dataset : NULL, asked,
                                              mode, 1000, &next, error);
    lh_manifest_destroy(asked);
    *is_new = status == LH_OK && next != NULL;
    if (!*is_new)
        return status;
    assert_int_equal(next->version, lh_dataset_last_version(dataset) + 1);
    assert_int_equal(next->created_ms, 1000);
    assert_int_equal(lh_dataset_add_version(dataset, next->version), LH_OK);
    lh_dataset_take(dataset, next);
    return LH_OK;
}

static struct lh_dataset *make(struct lh_registry *registry, const char *name)
{
    struct lh_dataset *dataset;
    assert_int_equal(lh_registry_make(registry, lh_str_of(name), &dataset), LH_OK);
    return dataset;
}

static void names_stay_in_order(void **state)
{
    struct lh_registry registry = {0};
    char name[16];
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "d%u", i * 7919 % 1000);
        make(&registry, name);
        make(&registry, name);
    }
    assert_int_equal(registry.count, 1000);
    for (uint32_t i = 1; i < registry.count; i++)
        assert_true(strcmp(registry.datasets[i - 1]->name, registry.datasets[i]->name) < 0);
    for (unsigned i = 0; i < 1000; i += 2) {
        snprintf(name, sizeof name, "d%u", i);
        lh_registry_remove(&registry, lh_str_of(name));
        assert_null(lh_registry_find(&registry, lh_str_of(name)));
    }
    assert_int_equal(registry.count, 500);
    assert_non_null(lh_registry_find(&registry, LH_STR("d501")));
    assert_string_equal(registry.datasets[lh_registry_seek(&registry, LH_STR("d5"))]->name, "d5");
    assert_int_equal(lh_registry_seek(&registry, LH_STR("e")), 500);
    lh_registry_deinit(&registry);
    (void)state;
}

static void create_is_for_new_names_and_known_fingerprints(void **state)
{
    struct lh_registry registry = {0};
    struct lh_dataset *dataset = make(&registry, "people");
    struct lh_error error;
    bool is_new;
    assert_int_equal(registers(dataset, "f1", LH_REGISTER_CREATE, &is_new, &error), LH_OK);
    assert_true(is_new);
    assert_int_equal(registers(dataset, "f1", LH_REGISTER_CREATE, &is_new, &error), LH_OK);
    assert_false(is_new);
    assert_int_equal(registers(dataset, "f2", LH_REGISTER_CREATE, &is_new, &error),
                     LH_FINGERPRINT_CONFLICT);
    assert_non_null(strstr(error.text, "f1"));
    assert_int_equal(dataset->version_count, 1);
    lh_registry_deinit(&registry);
    (void)state;
}

static void replace_makes_a_version_of_its_own_objects(void **state)
{
    struct lh_registry registry = {0};
    struct lh_dataset *dataset = make(&registry, "people");
    struct lh_error error;
    bool is_new;
    assert_int_equal(registers(dataset, "f1", LH_REGISTER_REPLACE, &is_new, &error), LH_OK);
    assert_int_equal(registers(dataset, "f2", LH_REGISTER_REPLACE, &is_new, &error), LH_OK);
    assert_true(is_new);
    assert_int_equal(dataset->newest->version, 2);
    assert_int_equal(dataset->newest->count, 1);
    assert_int_equal(dataset->newest->row_count, 10);
    assert_int_equal(registers(dataset, "f2", LH_REGISTER_REPLACE, &is_new, &error), LH_OK);
    assert_false(is_new);
    assert_int_equal(registers(dataset, "f1", LH_REGISTER_REPLACE, &is_new, &error), LH_OK);
    assert_true(is_new); /* back to what it was */
    assert_int_equal(dataset->newest->version, 3);
    lh_registry_deinit(&registry);
    (void)state;
}

static void append_keeps_what_is_there(void **state)
{
    struct lh_registry registry = {0};
    struct lh_dataset *dataset = make(&registry, "people");
    struct lh_error error;
    bool is_new;
    assert_int_equal(registers(dataset, "f1", LH_REGISTER_APPEND, &is_new, &error), LH_OK);
    assert_int_equal(registers(dataset, "f2", LH_REGISTER_APPEND, &is_new, &error), LH_OK);
    assert_int_equal(registers(dataset, "f3", LH_REGISTER_APPEND, &is_new, &error), LH_OK);
    const struct lh_manifest *newest = dataset->newest;
    assert_int_equal(newest->version, 3);
    assert_int_equal(newest->count, 3);
    assert_int_equal(newest->row_count, 30);
    assert_string_equal(newest->fingerprint.ptr, "f3");
    assert_string_equal(newest->objects[0].fingerprint.ptr, "f1");
    assert_string_equal(newest->objects[2].key.ptr, "f3");
    for (const char *const *old = (const char *const[]){"f1", "f2", "f3", NULL}; *old; old++) {
        assert_int_equal(registers(dataset, *old, LH_REGISTER_APPEND, &is_new, &error), LH_OK);
        assert_false(is_new);
    }
    lh_registry_deinit(&registry);
    (void)state;
}

static enum lh_status append(const struct lh_dataset *dataset, struct lh_manifest *asked,
                             struct lh_manifest **next, struct lh_error *error)
{
    enum lh_status status = lh_dataset_decide(dataset, asked, LH_REGISTER_APPEND, 1, next, error);
    lh_manifest_destroy(asked);
    return status;
}

static void append_checks_what_must_agree(void **state)
{
    struct lh_registry registry = {0};
    struct lh_dataset *dataset = make(&registry, "people");
    struct lh_manifest *next, *asked;
    struct lh_error error;
    bool is_new;
    assert_int_equal(registers(dataset, "f1", LH_REGISTER_CREATE, &is_new, &error), LH_OK);
    assert_int_equal(
        append(dataset, ask("f2", "[{\"name\":\"a\",\"type\":\"DATE\"}]", 1), &next, &error),
        LH_SCHEMA_CONFLICT);
    assert_int_equal(append(dataset, ask("f2", "", 1), &next, &error), LH_OK);
    assert_string_equal(next->schema_json.ptr, SCHEMA);
    lh_manifest_destroy(next);
    assert_int_equal(append(dataset, ask("f2", SCHEMA, -1), &next, &error), LH_OK);
    assert_false(next->has_row_count);
    lh_manifest_destroy(next);
    /* The same object by another fingerprint. */
    asked = ask("f1", SCHEMA, 1);
    asked->fingerprint = LH_STR("f9");
    asked->objects[0].fingerprint = LH_STR("f9");
    assert_int_equal(append(dataset, asked, &next, &error), LH_FINGERPRINT_CONFLICT);
    assert_non_null(strstr(error.text, "objects[0].key"));
    lh_registry_deinit(&registry);
    (void)state;
}

static void a_failed_dataset_is_mended_by_replace_alone(void **state)
{
    struct lh_registry registry = {0};
    struct lh_dataset *dataset = make(&registry, "people");
    struct lh_error error;
    bool is_new;
    assert_int_equal(registers(dataset, "f1", LH_REGISTER_CREATE, &is_new, &error), LH_OK);
    lh_dataset_fail(dataset, "torn");
    assert_int_equal(registers(dataset, "f1", LH_REGISTER_CREATE, &is_new, &error),
                     LH_DATASET_FAILED);
    assert_non_null(strstr(error.text, "torn"));
    assert_int_equal(registers(dataset, "f2", LH_REGISTER_APPEND, &is_new, &error),
                     LH_DATASET_FAILED);
    assert_int_equal(registers(dataset, "f2", LH_REGISTER_REPLACE, &is_new, &error), LH_OK);
    assert_int_equal(dataset->state, LH_DATASET_IS_READY);
    assert_int_equal(dataset->newest->version, 2);
    dataset->state = LH_DATASET_IS_DELETING;
    assert_int_equal(registers(dataset, "f3", LH_REGISTER_REPLACE, &is_new, &error),
                     LH_DATASET_LOADING);
    lh_registry_deinit(&registry);
    (void)state;
}

static void versions_come_in_any_order(void **state)
{
    static const uint64_t order[] = {3, 1, 10, 2, 3};
    struct lh_registry registry = {0};
    struct lh_dataset *dataset = make(&registry, "people");
    for (size_t i = 0; i < sizeof order / sizeof *order; i++)
        assert_int_equal(lh_dataset_add_version(dataset, order[i]), LH_OK);
    assert_int_equal(dataset->version_count, 4);
    assert_int_equal(lh_dataset_last_version(dataset), 10);
    lh_dataset_drop_version(dataset, 10);
    assert_int_equal(lh_dataset_last_version(dataset), 3);
    assert_true(lh_dataset_has_version(dataset, 2));
    assert_false(lh_dataset_has_version(dataset, 10));
    lh_registry_deinit(&registry);
    (void)state;
}

static void old_manifests_are_kept_while_there_is_room(void **state)
{
    struct lh_registry registry = {0};
    make(&registry, "people");
    for (uint64_t i = 1; i <= LH_CATALOG_OLD_MAX + 1; i++) {
        struct lh_manifest *old = ask("f", "", 1);
        old->version = i;
        lh_registry_remember(&registry, old);
    }
    assert_null(lh_registry_recall(&registry, LH_STR("people"), 1));
    assert_non_null(lh_registry_recall(&registry, LH_STR("people"), 2));
    assert_null(lh_registry_recall(&registry, LH_STR("other"), 2));
    lh_registry_remove(&registry, LH_STR("people"));
    assert_null(lh_registry_recall(&registry, LH_STR("people"), 2));
    lh_registry_deinit(&registry);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_stay_in_order),
        cmocka_unit_test(create_is_for_new_names_and_known_fingerprints),
        cmocka_unit_test(replace_makes_a_version_of_its_own_objects),
        cmocka_unit_test(append_keeps_what_is_there),
        cmocka_unit_test(append_checks_what_must_agree),
        cmocka_unit_test(a_failed_dataset_is_mended_by_replace_alone),
        cmocka_unit_test(versions_come_in_any_order),
        cmocka_unit_test(old_manifests_are_kept_while_there_is_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
