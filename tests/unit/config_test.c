/* base/config: every source of values, every kind of mistake, and the file that is shipped. */
#include "base/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define MiB (1024ull * 1024)

static struct lh_config *make(void)
{
    struct lh_config *config = NULL;
    assert_int_equal(lh_config_create(&config), LH_OK);
    return config;
}

static void assert_text(struct lh_str got, const char *want)
{
    if (!lh_str_eq(got, lh_str_of(want)))
        fail_msg("%.*s, not %s", LH_STR_FMT(got), want);
}

static void assert_refused(const char *key, const char *value, enum lh_config_type given,
                           const char *want)
{
    struct lh_config *config = make();
    struct lh_error error = {0};
    enum lh_status status =
        lh_config_set(config, key, lh_str_of(value), given, "lakehouse.toml:14", &error);
    assert_int_equal(status, LH_CONFIG);
    assert_int_equal(error.status, LH_CONFIG);
    assert_string_equal(error.text, want);
    lh_config_destroy(config);
}

static uint64_t set_and_get(const char *key, const char *value, enum lh_config_type given)
{
    struct lh_config *config = make();
    struct lh_error error = {0};
    uint64_t got;
    if (lh_config_set(config, key, lh_str_of(value), given, "test", &error) != LH_OK)
        fail_msg("%s", error.text);
    got = lh_config_integer(config, key);
    lh_config_destroy(config);
    return got;
}

static void every_key_has_its_default(void **state)
{
    struct lh_config *config = make();
    struct lh_error error;
    assert_text(lh_config_string(config, "gateway.bind"), "127.0.0.1:3110");
    assert_text(lh_config_string(config, "storaged.bind"), "127.0.0.1:3211");
    assert_text(lh_config_string(config, "catalogd.bind"), "127.0.0.1:3212");
    assert_text(lh_config_string(config, "ingestd.bind"), "127.0.0.1:3213");
    assert_text(lh_config_string(config, "queryd.bind"), "127.0.0.1:3214");
    assert_text(lh_config_string(config, "vectord.bind"), "127.0.0.1:3215");
    assert_int_equal(lh_config_integer(config, "server.body_bytes_max"), 64 * MiB);
    assert_int_equal(lh_config_integer(config, "server.header_timeout"), 10000);
    assert_true(lh_config_bool(config, "s3.use_path_style"));
    assert_int_equal(lh_config_check(config, &error), LH_OK);
    assert_false(lh_config_is_set(config, "vectord.shards"));
    lh_config_destroy(config);
}

static void values_of_each_type_are_read(void **state)
{
    struct lh_config *config;
    assert_int_equal(set_and_get("vectord.shards", "8", LH_CONFIG_INTEGER), 8);
    assert_int_equal(set_and_get("vectord.shards", "8", LH_CONFIG_TEXT), 8);
    assert_int_equal(set_and_get("vectord.shards", "256", LH_CONFIG_INTEGER), 256);
    assert_int_equal(set_and_get("server.body_bytes_max", "1GiB", LH_CONFIG_STRING), 1024 * MiB);
    assert_int_equal(set_and_get("server.body_bytes_max", "512KiB", LH_CONFIG_TEXT), MiB / 2);
    assert_int_equal(set_and_get("server.body_bytes_max", "2048", LH_CONFIG_INTEGER), 2048);
    assert_int_equal(set_and_get("server.memory_max", "1TiB", LH_CONFIG_STRING), MiB * MiB);
    assert_int_equal(set_and_get("server.idle_timeout", "500ms", LH_CONFIG_STRING), 500);
    assert_int_equal(set_and_get("server.idle_timeout", "2m", LH_CONFIG_STRING), 120000);
    assert_int_equal(set_and_get("server.idle_timeout", "1m30s", LH_CONFIG_STRING), 90000);
    assert_int_equal(set_and_get("server.idle_timeout", "1h", LH_CONFIG_TEXT), 3600000);
    assert_int_equal(set_and_get("server.idle_timeout", "250", LH_CONFIG_INTEGER), 250);
    config = make();
    assert_int_equal(
        lh_config_set(config, "s3.use_path_style", LH_STR("false"), LH_CONFIG_BOOL, "test", NULL),
        LH_OK);
    assert_false(lh_config_bool(config, "s3.use_path_style"));
    assert_true(lh_config_is_set(config, "s3.use_path_style"));
    lh_config_destroy(config);
}

static void a_refused_value_that_may_be_secret_is_not_repeated(void **state)
{
    assert_refused("s3.secret_access_key", "hunter2", LH_CONFIG_INTEGER,
                   "lakehouse.toml:14: s3.secret_access_key: the value is not a string in quotes");
    assert_refused("vectord.storaged_url", "http://me:hunter2@host", LH_CONFIG_STRING,
                   "lakehouse.toml:14: vectord.storaged_url: the value must have no user, query or "
                   "fragment");
    assert_refused(
        "gateway.queryd_url", "ftp://me:hunter2@host", LH_CONFIG_STRING,
        "lakehouse.toml:14: gateway.queryd_url: the value does not begin with http:// or "
        "https://");
    (void)state;
}

static void a_wrong_type_names_the_place_and_the_reason(void **state)
{
    assert_refused("vectord.shards", "eight", LH_CONFIG_STRING,
                   "lakehouse.toml:14: vectord.shards: \"eight\" is not a whole number");
    assert_refused("vectord.shards", "8", LH_CONFIG_STRING,
                   "lakehouse.toml:14: vectord.shards: \"8\" is a string: a whole number stands "
                   "without quotes");
    assert_refused("vectord.shards", "8KiB", LH_CONFIG_TEXT,
                   "lakehouse.toml:14: vectord.shards: \"8KiB\" is not a whole number");
    assert_refused("vectord.shards", "true", LH_CONFIG_BOOL,
                   "lakehouse.toml:14: vectord.shards: true is not a whole number");
    assert_refused("vectord.shards", "", LH_CONFIG_TEXT,
                   "lakehouse.toml:14: vectord.shards: \"\" is not a whole number");
    assert_refused("gateway.bind", "3110", LH_CONFIG_INTEGER,
                   "lakehouse.toml:14: gateway.bind: 3110 is not a string in quotes");
    assert_refused("s3.use_path_style", "true", LH_CONFIG_STRING,
                   "lakehouse.toml:14: s3.use_path_style: \"true\" is a string: true and false "
                   "stand without quotes");
    assert_refused("s3.use_path_style", "1", LH_CONFIG_INTEGER,
                   "lakehouse.toml:14: s3.use_path_style: 1 is not true or false");
    assert_refused("server.idle_timeout", "10 s", LH_CONFIG_STRING,
                   "lakehouse.toml:14: server.idle_timeout: \"10 s\" is not a duration such as "
                   "500ms, 30s, 2m or 1h");
    assert_refused("server.body_bytes_max", "64MB", LH_CONFIG_STRING,
                   "lakehouse.toml:14: server.body_bytes_max: \"64MB\" is not a size: a whole "
                   "number, or one with KiB, MiB, GiB or TiB");
    assert_refused("log.level", "loud", LH_CONFIG_STRING,
                   "lakehouse.toml:14: log.level: \"loud\" is none of debug|info|warn|error");
    assert_refused("log.level", "info|warn", LH_CONFIG_STRING,
                   "lakehouse.toml:14: log.level: \"info|warn\" is none of debug|info|warn|error");
    assert_refused("vectord.data_dir", "a\xff", LH_CONFIG_TEXT,
                   "lakehouse.toml:14: vectord.data_dir: \"a\xff\" is not text");
}

static void a_value_out_of_range_names_the_limit(void **state)
{
    assert_refused("vectord.shards", "257", LH_CONFIG_INTEGER,
                   "lakehouse.toml:14: vectord.shards: 257 is more than 256");
    assert_refused("vectord.shards", "-1", LH_CONFIG_INTEGER,
                   "lakehouse.toml:14: vectord.shards: -1 is less than 0");
    assert_refused("server.connections_max", "0", LH_CONFIG_INTEGER,
                   "lakehouse.toml:14: server.connections_max: 0 is less than 1");
    assert_refused("server.body_bytes_max", "3GiB", LH_CONFIG_STRING,
                   "lakehouse.toml:14: server.body_bytes_max: \"3GiB\" is more than \"2GiB\"");
    assert_refused("server.idle_timeout", "10ms", LH_CONFIG_STRING,
                   "lakehouse.toml:14: server.idle_timeout: \"10ms\" is less than \"100ms\"");
    assert_refused("server.memory_max", "99999999TiB", LH_CONFIG_STRING,
                   "lakehouse.toml:14: server.memory_max: \"99999999TiB\" is too large");
}

static void an_unknown_key_gets_the_nearest_one(void **state)
{
    assert_refused("vectord.shard", "8", LH_CONFIG_INTEGER,
                   "lakehouse.toml:14: vectord.shard: unknown key; did you mean vectord.shards?");
    assert_refused("vektord.shards", "8", LH_CONFIG_INTEGER,
                   "lakehouse.toml:14: vektord.shards: unknown key; did you mean vectord.shards?");
    assert_refused("garden.gnome", "8", LH_CONFIG_INTEGER,
                   "lakehouse.toml:14: garden.gnome: unknown key");
}

static void binds_are_host_and_port(void **state)
{
    static const struct {
        const char *text, *host;
        unsigned port;
    } good[] = {{"127.0.0.1:3110", "127.0.0.1", 3110},
                {"localhost:0", "localhost", 0},
                {":65535", "0.0.0.0", 65535},
                {"[::1]:3110", "::1", 3110}};
    for (unsigned i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct lh_config *config = make();
        struct lh_config_address address;
        assert_int_equal(lh_config_set(config, "gateway.bind", lh_str_of(good[i].text),
                                       LH_CONFIG_STRING, "test", NULL),
                         LH_OK);
        address = lh_config_bind(config, "gateway.bind");
        assert_text(address.host, good[i].host);
        assert_int_equal(address.port, good[i].port);
        lh_config_destroy(config);
    }
    assert_refused("gateway.bind", "3110", LH_CONFIG_STRING,
                   "lakehouse.toml:14: gateway.bind: \"3110\" is not host:port");
    assert_refused("gateway.bind", "", LH_CONFIG_STRING,
                   "lakehouse.toml:14: gateway.bind: \"\" is not host:port");
    assert_refused("gateway.bind", "a:65536", LH_CONFIG_STRING,
                   "lakehouse.toml:14: gateway.bind: \"a:65536\" does not end in a port from 0 to "
                   "65535");
    assert_refused("gateway.bind", "::1:80", LH_CONFIG_STRING,
                   "lakehouse.toml:14: gateway.bind: \"::1:80\" is an IPv6 address without "
                   "brackets: write [address]:port");
    assert_refused("gateway.bind", "[::1:80", LH_CONFIG_STRING,
                   "lakehouse.toml:14: gateway.bind: \"[::1:80\" has a bracket without its other "
                   "one");
}

static void urls_have_a_scheme_and_a_host_and_no_more_than_a_path(void **state)
{
    static const char *const good[] = {"",
                                       "http://localhost",
                                       "https://store.example:8443",
                                       "http://[::1]:3211",
                                       "http://[::1]",
                                       "http://10.0.0.1/a/b/"};
    static const struct {
        const char *text, *reason;
    } bad[] = {{"localhost:3211", "does not begin with http:// or https://"},
               {"ftp://a", "does not begin with http:// or https://"},
               {"http://", "is no URL: it has no host"},
               {"http:///a", "is no URL: it has no host"},
               {"http://:80", "is no URL: it has no host"},
               {"http://a b", "is no URL: a character in it must be escaped"},
               {"http://a/?b", "must have no user, query or fragment"},
               {"http://a:b", "does not end in a port from 0 to 65535"},
               {"http://fe80::1:80", "is an IPv6 address without brackets: write [address]:port"}};
    for (unsigned i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct lh_config *config = make();
        assert_int_equal(lh_config_set(config, "vectord.storaged_url", lh_str_of(good[i]),
                                       LH_CONFIG_STRING, "test", NULL),
                         LH_OK);
        lh_config_destroy(config);
    }
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char text[160];
        snprintf(text, sizeof text, "lakehouse.toml:14: vectord.storaged_url: \"%s\" %s",
                 bad[i].text, bad[i].reason);
        assert_refused("vectord.storaged_url", bad[i].text, LH_CONFIG_STRING, text);
    }
}

static void variables_set_keys_and_unknown_ones_are_named(void **state)
{
    char *good[] = {"PATH=/bin", "LAKEHOUSE=x", "LAKEHOUSE_VECTORD_SHARDS=8",
                    "LAKEHOUSE_SERVER_BODY_BYTES_MAX=1MiB", NULL};
    char *unknown[] = {"LAKEHOUSE_VECTORD_SHARD=8", NULL};
    char *wrong[] = {"LAKEHOUSE_VECTORD_SHARDS=many", NULL};
    struct lh_config *config = make();
    struct lh_error error = {0};
    assert_int_equal(lh_config_set_environment(config, good, &error), LH_OK);
    assert_int_equal(lh_config_integer(config, "vectord.shards"), 8);
    assert_int_equal(lh_config_integer(config, "server.body_bytes_max"), MiB);
    assert_int_equal(lh_config_set_environment(config, unknown, &error), LH_CONFIG);
    assert_string_equal(error.text, "LAKEHOUSE_VECTORD_SHARD: unknown variable; did you mean "
                                    "LAKEHOUSE_VECTORD_SHARDS?");
    assert_int_equal(lh_config_set_environment(config, wrong, &error), LH_CONFIG);
    assert_string_equal(error.text, "LAKEHOUSE_VECTORD_SHARDS: vectord.shards: \"many\" is not a "
                                    "whole number");
    assert_int_equal(lh_config_integer(config, "vectord.shards"),
                     8); /* a refusal changes nothing */
    lh_config_destroy(config);
}

static void an_argument_is_key_and_value(void **state)
{
    struct lh_config *config = make();
    struct lh_error error = {0};
    assert_int_equal(lh_config_set_argument(config, LH_STR("vectord.shards=4"), &error), LH_OK);
    assert_int_equal(lh_config_integer(config, "vectord.shards"), 4);
    assert_int_equal(lh_config_set_argument(config, LH_STR("vectord.data_dir=/a=b"), &error),
                     LH_OK);
    assert_text(lh_config_string(config, "vectord.data_dir"), "/a=b");
    assert_int_equal(lh_config_set_argument(config, LH_STR("vectord.data_dir="), &error), LH_OK);
    assert_text(lh_config_string(config, "vectord.data_dir"), "");
    assert_int_equal(lh_config_set_argument(config, LH_STR("shards"), &error), LH_CONFIG);
    assert_string_equal(error.text, "--set: \"shards\" is not section.key=value");
    assert_int_equal(lh_config_set_argument(config, LH_STR("log.levle=info"), &error), LH_CONFIG);
    assert_string_equal(error.text, "--set: log.levle: unknown key; did you mean log.level?");
    lh_config_destroy(config);
}

static void two_services_on_one_bind_are_refused(void **state)
{
    struct lh_config *config = make();
    struct lh_error error = {0};
    assert_int_equal(lh_config_set_argument(config, LH_STR("gateway.bind=:3215"), &error), LH_OK);
    assert_int_equal(lh_config_check(config, &error), LH_CONFIG);
    assert_string_equal(error.text, "--set: gateway.bind and vectord.bind are both port 3215");
    assert_int_equal(lh_config_set_argument(config, LH_STR("gateway.bind=[::1]:3215"), &error),
                     LH_OK);
    assert_int_equal(lh_config_check(config, &error), LH_OK);
    assert_int_equal(lh_config_set_argument(config, LH_STR("gateway.bind=127.0.0.1:0"), &error),
                     LH_OK);
    assert_int_equal(lh_config_set_argument(config, LH_STR("vectord.bind=127.0.0.1:0"), &error),
                     LH_OK);
    assert_int_equal(lh_config_check(config, &error), LH_OK);
    lh_config_destroy(config);
}

static void a_body_larger_than_all_bodies_is_refused(void **state)
{
    struct lh_config *config = make();
    struct lh_error error = {0};
    assert_int_equal(lh_config_set_argument(config, LH_STR("server.body_bytes_max=1GiB"), &error),
                     LH_OK);
    assert_int_equal(lh_config_check(config, &error), LH_CONFIG);
    assert_string_equal(error.text, "--set: server.body_bytes_max is 1073741824, more than "
                                    "server.body_bytes_in_flight_max, 268435456");
    lh_config_destroy(config);
}

static void printing_masks_secrets_and_shows_what_was_set(void **state)
{
    struct lh_config *config = make();
    struct lh_buf text = LH_BUF_EMPTY;
    struct lh_error error;
    assert_int_equal(lh_config_set_argument(config, LH_STR("s3.secret_access_key=hunter2"), &error),
                     LH_OK);
    assert_int_equal(lh_config_set_argument(config, LH_STR("vectord.data_dir=a\"b\\c"), &error),
                     LH_OK);
    assert_int_equal(lh_config_set_argument(config, LH_STR("server.idle_timeout=90500"), &error),
                     LH_OK);
    lh_config_print(config, &text);
    lh_buf_append_char(&text, '\0');
    assert_false(lh_buf_failed(&text));
    assert_null(strstr(text.ptr, "hunter2"));
    assert_non_null(strstr(text.ptr, "\nsecret_access_key = \"********\"\n"));
    assert_non_null(strstr(text.ptr, "\ndata_dir = \"a\\\"b\\\\c\"\n"));
    assert_non_null(strstr(text.ptr, "\nidle_timeout = \"90500ms\"\n"));
    assert_non_null(strstr(text.ptr, "\nmax_ingest_bytes = \"256MiB\"\n"));
    lh_buf_deinit(&text);
    lh_config_destroy(config);
}

/* conf/lakehouse.toml beside this source's tree. */
static FILE *open_shipped_file(void)
{
    static const char self[] = __FILE__;
    const char *tests = strstr(self, "tests/unit/");
    char path[4096];
    FILE *file;
    assert_non_null(tests);
    snprintf(path, sizeof path, "%.*sconf/lakehouse.toml", (int)(tests - self), self);
    file = fopen(path, "r");
    if (file == NULL)
        fail_msg("%s does not open", path);
    return file;
}

static void the_shipped_file_is_the_printed_default(void **state)
{
    struct lh_config *config = make();
    struct lh_buf printed = LH_BUF_EMPTY, shipped = LH_BUF_EMPTY;
    FILE *file = open_shipped_file();
    char piece[4096];
    size_t got;
    while ((got = fread(piece, 1, sizeof piece, file)) > 0)
        lh_buf_append(&shipped, piece, got);
    fclose(file);
    lh_config_print(config, &printed);
    assert_int_equal(shipped.len, printed.len);
    assert_memory_equal(shipped.ptr, printed.ptr, printed.len);
    lh_buf_deinit(&printed);
    lh_buf_deinit(&shipped);
    lh_config_destroy(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_has_its_default),
        cmocka_unit_test(values_of_each_type_are_read),
        cmocka_unit_test(a_refused_value_that_may_be_secret_is_not_repeated),
        cmocka_unit_test(a_wrong_type_names_the_place_and_the_reason),
        cmocka_unit_test(a_value_out_of_range_names_the_limit),
        cmocka_unit_test(an_unknown_key_gets_the_nearest_one),
        cmocka_unit_test(binds_are_host_and_port),
        cmocka_unit_test(urls_have_a_scheme_and_a_host_and_no_more_than_a_path),
        cmocka_unit_test(variables_set_keys_and_unknown_ones_are_named),
        cmocka_unit_test(an_argument_is_key_and_value),
        cmocka_unit_test(two_services_on_one_bind_are_refused),
        cmocka_unit_test(a_body_larger_than_all_bodies_is_refused),
        cmocka_unit_test(printing_masks_secrets_and_shows_what_was_set),
        cmocka_unit_test(the_shipped_file_is_the_printed_default),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
