/* The configuration's values: setting, checking, reading and printing, all led by the table in
 * base/config_keys.c. One thread, at start; read-only afterwards, by any.
 *
 * Invariant: every value in a struct lh_config has passed its key's checks, the defaults too. */
#include "base/config.h"

#include "base/config_keys.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LH_CONFIG_STRING_MAX   4096u /* a path on Linux */
#define LH_CONFIG_REASON_MAX   64u
#define LH_CONFIG_ORIGIN_SHOWN 48u /* where an error has little room */

struct lh_config_entry {
    char *text;   /* of a string */
    char *origin; /* where it was set; NULL: the default */
    uint64_t number;
};

struct lh_config {
    struct lh_config_entry *entries; /* one a key, in the order of the table */
};

/* A value that has been read and checked; text of a string, number of the rest. */
struct lh_config_reading {
    struct lh_str text;
    uint64_t number;
};

static bool lh_config_is_choice(const char *choices, struct lh_str text)
{
    while (*choices != '\0') {
        size_t len = strcspn(choices, "|");
        if (lh_str_eq(text, (struct lh_str){choices, len}))
            return true;
        choices += len + (choices[len] == '|');
    }
    return false;
}

/* The readers of one type: NULL, or the reason, which may be written to `reason`. */
static const char *lh_config_read_string(const struct lh_config_key *key, struct lh_str value,
                                         char reason[LH_CONFIG_REASON_MAX])
{
    struct lh_config_address bind;
    if (memchr(value.ptr, '\0', value.len) != NULL || !lh_str_is_utf8(value))
        return "is not text";
    if (value.len > LH_CONFIG_STRING_MAX)
        return "is too long";
    if (key->choices != NULL && !lh_config_is_choice(key->choices, value)) {
        snprintf(reason, LH_CONFIG_REASON_MAX, "is none of %s", key->choices);
        return reason;
    }
    if (key->flags & LH_KEY_URL && value.len > 0)
        return lh_config_read_url(value);
    if (key->flags & LH_KEY_BIND && !lh_str_eq(value, LH_STR("none")))
        return lh_config_read_bind(value, &bind);
    return NULL;
}

static const char *lh_config_read_number(const struct lh_config_key *key, struct lh_str value,
                                         uint64_t *number, char reason[LH_CONFIG_REASON_MAX])
{
    const char *wrong;
    bool is_negative = value.len > 1 && value.ptr[0] == '-';
    bool is_bytes = (key->flags & LH_KEY_BYTES) != 0;
    if (is_negative) {
        value.ptr++;
        value.len--;
    }
    wrong = key->type == LH_CONFIG_DURATION ? lh_config_read_duration_ms(value, number)
                                            : lh_config_read_integer(value, is_bytes, number);
    if (wrong != NULL)
        return wrong;
    if (is_negative || *number < key->min || *number > key->max) {
        bool is_less = is_negative || *number < key->min;
        struct lh_buf limit = LH_BUF_EMPTY;
        if (key->type == LH_CONFIG_DURATION)
            lh_config_write_duration_ms(&limit, is_less ? key->min : key->max);
        else if (is_bytes)
            lh_config_write_bytes(&limit, is_less ? key->min : key->max);
        else
            lh_buf_printf(&limit, "%llu", (unsigned long long)(is_less ? key->min : key->max));
        snprintf(reason, LH_CONFIG_REASON_MAX, "is %s %.*s", is_less ? "less than" : "more than",
                 LH_STR_FMT(lh_buf_str(&limit)));
        lh_buf_deinit(&limit);
        return reason;
    }
    return NULL;
}

/* What is wrong with the type that the file gives, or NULL. */
static const char *lh_config_mistyped(const struct lh_config_key *key, struct lh_str value,
                                      enum lh_config_type given)
{
    bool is_bool = lh_str_eq(value, LH_STR("true")) || lh_str_eq(value, LH_STR("false"));
    uint64_t number;
    switch (key->type) {
    case LH_CONFIG_STRING:
        return given == LH_CONFIG_STRING || given == LH_CONFIG_TEXT ? NULL
                                                                    : "is not a string in quotes";
    case LH_CONFIG_BOOL:
        if (is_bool && given == LH_CONFIG_STRING)
            return "is a string: true and false stand without quotes";
        return is_bool ? NULL : "is not true or false";
    case LH_CONFIG_INTEGER:
    case LH_CONFIG_DURATION:
        if (given == LH_CONFIG_BOOL)
            return "is not a whole number";
        if (given == LH_CONFIG_STRING && lh_str_to_u64(value, &number))
            return "is a string: a whole number stands without quotes";
        return NULL;
    case LH_CONFIG_TEXT:
        break;
    }
    assert(!"a key has one of the types above");
    return NULL;
}

static const char *lh_config_read(const struct lh_config_key *key, struct lh_str value,
                                  enum lh_config_type given, struct lh_config_reading *reading,
                                  char reason[LH_CONFIG_REASON_MAX])
{
    const char *wrong = lh_config_mistyped(key, value, given);
    *reading = (struct lh_config_reading){value, 0};
    if (wrong != NULL)
        return wrong;
    if (key->type == LH_CONFIG_STRING)
        return lh_config_read_string(key, value, reason);
    if (key->type == LH_CONFIG_BOOL) {
        reading->number = lh_str_eq(value, LH_STR("true"));
        return NULL;
    }
    return lh_config_read_number(key, value, &reading->number, reason);
}

static enum lh_status lh_config_store(struct lh_config_entry *entry,
                                      const struct lh_config_reading *reading, const char *origin)
{
    char *text = strndup(reading->text.len > 0 ? reading->text.ptr : "", reading->text.len);
    char *from = origin != NULL ? strdup(origin) : NULL;
    if (text == NULL || (origin != NULL && from == NULL)) {
        free(text);
        free(from);
        return LH_OUT_OF_MEMORY;
    }
    free(entry->text);
    free(entry->origin);
    *entry = (struct lh_config_entry){text, from, reading->number};
    return LH_OK;
}

static struct lh_config_reading lh_config_default(const struct lh_config_key *key)
{
    struct lh_config_reading reading;
    char reason[LH_CONFIG_REASON_MAX];
    const char *wrong =
        lh_config_read(key, lh_str_of(key->value), LH_CONFIG_TEXT, &reading, reason);
    assert(wrong == NULL);
    (void)wrong;
    return reading;
}

enum lh_status lh_config_create(struct lh_config **config)
{
    struct lh_config *made = calloc(1, sizeof *made);
    if (made == NULL)
        return LH_OUT_OF_MEMORY;
    made->entries = calloc(lh__config_key_count, sizeof *made->entries);
    if (made->entries == NULL) {
        free(made);
        return LH_OUT_OF_MEMORY;
    }
    for (size_t i = 0; i < lh__config_key_count; i++) {
        struct lh_config_reading reading = lh_config_default(&lh__config_keys[i]);
        if (lh_config_store(&made->entries[i], &reading, NULL) != LH_OK) {
            lh_config_destroy(made);
            return LH_OUT_OF_MEMORY;
        }
    }
    *config = made;
    return LH_OK;
}

void lh_config_destroy(struct lh_config *config)
{
    if (config == NULL)
        return;
    for (size_t i = 0; i < lh__config_key_count; i++) {
        free(config->entries[i].text);
        free(config->entries[i].origin);
    }
    free(config->entries);
    free(config);
}

static enum lh_status lh_config_set_at(struct lh_config *config, size_t at, struct lh_str value,
                                       enum lh_config_type given, const char *origin,
                                       struct lh_error *error)
{
    const struct lh_config_key *key = &lh__config_keys[at];
    struct lh_config_reading reading;
    char name[LH_CONFIG_NAME_MAX], reason[LH_CONFIG_REASON_MAX];
    const char *wrong = lh_config_read(key, value, given, &reading, reason);
    lh__config_key_name(key, name);
    if (wrong != NULL) {
        const char *quote = given == LH_CONFIG_STRING || given == LH_CONFIG_TEXT ? "\"" : "";
        int shown = value.len < 40 ? (int)value.len : 40;
        bool has_user = (key->flags & LH_KEY_URL) && memchr(value.ptr, '@', value.len) != NULL;
        if ((key->flags & LH_KEY_SECRET) || has_user) /* a user's name comes with a password */
            return lh_error_set(error, LH_CONFIG, "%s: %s: the value %s", origin, name, wrong);
        return lh_error_set(error, LH_CONFIG, "%s: %s: %s%.*s%s%s %s", origin, name, quote, shown,
                            value.ptr, value.len > 40 ? "..." : "", quote, wrong);
    }
    if (lh_config_store(&config->entries[at], &reading, origin) != LH_OK)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "%s: %s: not enough memory", origin, name);
    return LH_OK;
}

enum lh_status lh_config_set(struct lh_config *config, const char *key, struct lh_str value,
                             enum lh_config_type given, const char *origin, struct lh_error *error)
{
    size_t at = lh__config_find(lh_str_of(key), false);
    if (at == lh__config_key_count)
        return lh__config_unknown(lh_str_of(key), false, origin, error);
    return lh_config_set_at(config, at, value, given, origin, error);
}

enum lh_status lh_config_set_argument(struct lh_config *config, struct lh_str argument,
                                      struct lh_error *error)
{
    const char *equals = memchr(argument.ptr, '=', argument.len);
    struct lh_str key = argument, value;
    size_t at;
    if (equals == NULL)
        return lh_error_set(error, LH_CONFIG, "--set: \"%.*s\" is not section.key=value",
                            argument.len < 64 ? (int)argument.len : 64, argument.ptr);
    key.len = (size_t)(equals - argument.ptr);
    value = (struct lh_str){equals + 1, argument.len - key.len - 1};
    at = lh__config_find(key, false);
    if (at == lh__config_key_count)
        return lh__config_unknown(key, false, "--set", error);
    return lh_config_set_at(config, at, value, LH_CONFIG_TEXT, "--set", error);
}

enum lh_status lh_config_set_environment(struct lh_config *config, char **environment,
                                         struct lh_error *error)
{
    for (char **variable = environment; *variable != NULL; variable++) {
        const char *equals = strchr(*variable, '=');
        struct lh_str name = {*variable, equals != NULL ? (size_t)(equals - *variable) : 0};
        char origin[LH_CONFIG_NAME_MAX];
        enum lh_status status;
        size_t at;
        if (!lh_str_has_prefix(name, LH_STR("LAKEHOUSE_")))
            continue;
        snprintf(origin, sizeof origin, "%.*s", LH_STR_FMT(name));
        at = lh__config_find(name, true);
        status = at == lh__config_key_count ? lh__config_unknown(name, true, origin, error)
                                            : lh_config_set_at(config, at, lh_str_of(equals + 1),
                                                               LH_CONFIG_TEXT, origin, error);
        if (status != LH_OK)
            return status;
    }
    return LH_OK;
}

/* Whether two sockets on these would collide. */
static bool lh_config_binds_clash(struct lh_config_address a, struct lh_config_address b)
{
    bool is_any = lh_str_eq(a.host, LH_STR("0.0.0.0")) || lh_str_eq(b.host, LH_STR("0.0.0.0")) ||
                  lh_str_eq(a.host, LH_STR("::")) || lh_str_eq(b.host, LH_STR("::"));
    return a.host.len > 0 && a.port == b.port && a.port != 0 &&
           (is_any || lh_str_eq_nocase(a.host, b.host));
}

/* Checks the bind at `at` against those before it. */
static enum lh_status lh_config_check_bind(const struct lh_config *config, size_t at,
                                           struct lh_error *error)
{
    struct lh_config_address bind, other;
    char name[LH_CONFIG_NAME_MAX], other_name[LH_CONFIG_NAME_MAX];
    lh__config_key_name(&lh__config_keys[at], name);
    bind = lh_config_bind(config, name);
    for (size_t i = 0; i < at; i++) {
        const struct lh_config_entry *entry = &config->entries[at];
        if ((lh__config_keys[i].flags & LH_KEY_BIND) == 0)
            continue;
        lh__config_key_name(&lh__config_keys[i], other_name);
        other = lh_config_bind(config, other_name);
        if (!lh_config_binds_clash(bind, other))
            continue;
        if (entry->origin == NULL) /* blame the one that was set */
            entry = &config->entries[i];
        return lh_error_set(error, LH_CONFIG, "%s: %s and %s are both port %u",
                            entry->origin != NULL ? entry->origin : "defaults", other_name, name,
                            bind.port);
    }
    return LH_OK;
}

/* The file has had two names: both are taken, for one file. */
static enum lh_status lh_config_check_secrets(const struct lh_config *config,
                                              struct lh_error *error)
{
    struct lh_str path = lh_config_string(config, "gateway.secrets_path");
    struct lh_str other = lh_config_string(config, "queryd.secrets_path");
    if (path.len == 0 || other.len == 0 || lh_str_eq(path, other))
        return LH_OK;
    size_t at = lh__config_find(LH_STR("queryd.secrets_path"), false);
    return lh_error_set(error, LH_CONFIG,
                        "%s: queryd.secrets_path is not the file that gateway.secrets_path names",
                        config->entries[at].origin);
}

static enum lh_status lh_config_check_tls(const struct lh_config *config, struct lh_error *error)
{
    bool has_certificate = lh_config_string(config, "server.tls_certificate").len > 0;
    bool has_key = lh_config_string(config, "server.tls_key").len > 0;
    const char *one = has_key ? "server.tls_key" : "server.tls_certificate";
    if (has_certificate == has_key)
        return LH_OK;
    size_t at = lh__config_find(lh_str_of(one), false);
    return lh_error_set(error, LH_CONFIG, "%s: %s needs %s", config->entries[at].origin, one,
                        has_key ? "server.tls_certificate" : "server.tls_key");
}

enum lh_status lh_config_check(const struct lh_config *config, struct lh_error *error)
{
    uint64_t one = lh_config_integer(config, "server.body_bytes_max");
    uint64_t all = lh_config_integer(config, "server.body_bytes_in_flight_max");
    for (size_t i = 0; i < lh__config_key_count; i++) {
        if (lh__config_keys[i].flags & LH_KEY_BIND) {
            enum lh_status status = lh_config_check_bind(config, i, error);
            if (status != LH_OK)
                return status;
        }
    }
    if (one > all) {
        size_t at = lh__config_find(LH_STR("server.body_bytes_max"), false);
        if (config->entries[at].origin == NULL)
            at = lh__config_find(LH_STR("server.body_bytes_in_flight_max"), false);
        return lh_error_set(error, LH_CONFIG,
                            "%s: server.body_bytes_max is %llu, more than "
                            "server.body_bytes_in_flight_max, %llu",
                            config->entries[at].origin, (unsigned long long)one,
                            (unsigned long long)all);
    }
    enum lh_status status = lh_config_check_tls(config, error);
    return status == LH_OK ? lh_config_check_secrets(config, error) : status;
}

static size_t lh_config_at(const char *key)
{
    size_t at = lh__config_find(lh_str_of(key), false);
    assert(at < lh__config_key_count);
    return at;
}

struct lh_str lh_config_string(const struct lh_config *config, const char *key)
{
    size_t at = lh_config_at(key);
    assert(lh__config_keys[at].type == LH_CONFIG_STRING);
    return lh_str_of(config->entries[at].text);
}

uint64_t lh_config_integer(const struct lh_config *config, const char *key)
{
    size_t at = lh_config_at(key);
    assert(lh__config_keys[at].type == LH_CONFIG_INTEGER ||
           lh__config_keys[at].type == LH_CONFIG_DURATION);
    return config->entries[at].number;
}

bool lh_config_bool(const struct lh_config *config, const char *key)
{
    size_t at = lh_config_at(key);
    assert(lh__config_keys[at].type == LH_CONFIG_BOOL);
    return config->entries[at].number != 0;
}

struct lh_config_address lh_config_bind(const struct lh_config *config, const char *key)
{
    size_t at = lh_config_at(key);
    struct lh_config_address bind = {{NULL, 0}, 0};
    struct lh_str text = lh_str_of(config->entries[at].text);
    assert(lh__config_keys[at].flags & LH_KEY_BIND);
    if (!lh_str_eq(text, LH_STR("none"))) {
        const char *wrong = lh_config_read_bind(text, &bind);
        assert(wrong == NULL); /* checked when it was set */
        (void)wrong;
    }
    return bind;
}

const char *lh_config_origin(const struct lh_config *config, const char *key)
{
    return config->entries[lh_config_at(key)].origin;
}

void lh_config_blame(const struct lh_config *config, const char *key, struct lh_error *error)
{
    struct lh_error told = *error;
    const char *origin = lh_config_origin(config, key);
    size_t len = origin != NULL ? strlen(origin) : 0;
    size_t cut = len > LH_CONFIG_ORIGIN_SHOWN ? len - LH_CONFIG_ORIGIN_SHOWN : 0;
    if (origin == NULL)
        lh_error_set(error, told.status, "%s: %s", key, told.text);
    else /* of a long path, the end says more */
        lh_error_set(error, told.status, "%s%s: %s: %s", cut > 0 ? "..." : "", origin + cut, key,
                     told.text);
    error->sys_errno = told.sys_errno;
}

void lh_config_locate(const struct lh_config *config, struct lh_error *error)
{
    struct lh_error told = *error;
    size_t len = strcspn(told.text, ":");
    size_t at = lh__config_find((struct lh_str){told.text, len}, false);
    char key[LH_CONFIG_NAME_MAX];
    if (at == lh__config_key_count || told.text[len] == '\0' || config->entries[at].origin == NULL)
        return;
    lh__config_key_name(&lh__config_keys[at], key);
    snprintf(error->text, sizeof error->text, "%s",
             told.text + len + strspn(told.text + len, ": "));
    lh_config_blame(config, key, error);
}

bool lh_config_is_set(const struct lh_config *config, const char *key)
{
    size_t at = lh_config_at(key);
    struct lh_config_reading standard = lh_config_default(&lh__config_keys[at]);
    if (lh__config_keys[at].type == LH_CONFIG_STRING)
        return !lh_str_eq(lh_str_of(config->entries[at].text), standard.text);
    return config->entries[at].number != standard.number;
}

static void lh_config_print_value(const struct lh_config_key *key,
                                  const struct lh_config_entry *entry, struct lh_buf *out)
{
    if (key->flags & LH_KEY_SECRET && entry->text[0] != '\0')
        lh_buf_append_str(out, LH_STR("\"********\""));
    else if (key->type == LH_CONFIG_STRING) /* TOML's basic strings have JSON's escapes */
        lh_buf_append_json_string(out, lh_str_of(entry->text));
    else if (key->type == LH_CONFIG_BOOL)
        lh_buf_append_str(out, entry->number ? LH_STR("true") : LH_STR("false"));
    else if (key->type == LH_CONFIG_DURATION)
        lh_config_write_duration_ms(out, entry->number);
    else if (key->flags & LH_KEY_BYTES)
        lh_config_write_bytes(out, entry->number);
    else
        lh_buf_printf(out, "%llu", (unsigned long long)entry->number);
}

static void lh_config_print_comment(const struct lh_config_key *key, struct lh_buf *out)
{
    for (const char *line = key->comment; line != NULL && *line != '\0';) {
        size_t len = strcspn(line, "\n");
        lh_buf_printf(out, "# %.*s\n", (int)len, line);
        line += len + (line[len] == '\n');
    }
    if (key->choices != NULL)
        lh_buf_printf(out, "# One of %s.\n", key->choices);
}

void lh_config_print(const struct lh_config *config, struct lh_buf *out)
{
    const char *section = "";
    lh_buf_append_str(
        out, LH_STR("# lakehoused: every key with its default. A variable such as\n"
                    "# LAKEHOUSE_VECTORD_SHARDS=8 goes before this file, and a flag such as\n"
                    "# --set vectord.shards=8 before both. Sizes take KiB, MiB, GiB, TiB;\n"
                    "# durations take ms, s, m, h.\n"));
    for (size_t i = 0; i < lh__config_key_count; i++) {
        const struct lh_config_key *key = &lh__config_keys[i];
        if (strcmp(section, key->section) != 0) {
            section = key->section;
            lh_buf_printf(out, "\n[%s]\n", section);
        }
        lh_config_print_comment(key, out);
        lh_buf_printf(out, "%s = ", key->name);
        lh_config_print_value(key, &config->entries[i], out);
        lh_buf_append_char(out, '\n');
    }
}

void lh_config_each_difference(const struct lh_config *before, const struct lh_config *after,
                               void (*each)(const char *key, bool is_live, void *arg), void *arg)
{
    for (size_t i = 0; i < lh__config_key_count; i++) {
        const struct lh_config_key *key = &lh__config_keys[i];
        const struct lh_config_entry *a = &before->entries[i], *b = &after->entries[i];
        char name[LH_CONFIG_NAME_MAX];
        bool is_same =
            key->type == LH_CONFIG_STRING ? strcmp(a->text, b->text) == 0 : a->number == b->number;
        if (is_same)
            continue;
        lh__config_key_name(key, name);
        each(name, (key->flags & LH_KEY_LIVE) != 0, arg);
    }
}
