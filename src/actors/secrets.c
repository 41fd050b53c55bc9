/* Reading the secrets file, and finding a token. Any thread.
 *
 * Tokens are kept and compared as their SHA-256: an attacker who can measure how far a comparison
 * got learns a part of a hash, from which no part of a token follows; and the comparison looks at
 * all of every hash anyway. */
#define OPENSSL_SUPPRESS_DEPRECATED /* SHA256_Init and so on: EVP takes half as long again */
#include "actors/secrets.h"

#include "base/config_value.h"
#include "ext/decode.h"
#include "ext/toml.h"
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct reader {
    const char *path;
    struct lh_secrets *secrets;
};

/* A value on its way to where it belongs. */
struct entry {
    const struct reader *reader;
    const char *key; /* as it stands in the file */
    struct lh_str value;
    enum lh_config_type type;
    unsigned line;
    struct lh_error *error;
};

static enum lh_status wrong(const struct entry *entry, const char *reason)
{
    return lh_error_set(entry->error, LH_CONFIG, "%s:%u: %s: %s", entry->reader->path, entry->line,
                        entry->key, reason);
}

static enum lh_status out_of_memory(const struct entry *entry)
{
    return lh_error_set(entry->error, LH_OUT_OF_MEMORY, "%s: not enough memory",
                        entry->reader->path);
}

/* ---- values ---- */

/* RFC 6750 section 2.1, b64token: what a header can carry. */
static bool is_token_text(struct lh_str text)
{
    size_t i = 0;
    while (i < text.len && text.ptr[i] != '\0' &&
           strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/",
                  text.ptr[i]) != NULL)
        i++;
    if (i == 0)
        return false;
    while (i < text.len && text.ptr[i] == '=')
        i++;
    return i == text.len;
}

static const char *wrong_token_text(struct lh_str text)
{
    if (!is_token_text(text))
        return "a token has letters, digits and -._~+/ only, and = at its end";
    if (text.len < LH_TOKEN_BYTES_MIN)
        return "is shorter than 16 characters";
    return text.len > LH_TOKEN_BYTES_MAX ? "is longer than 4096 characters" : NULL;
}

static void hash_of(struct lh_str text, uint8_t hash[LH_TOKEN_HASH_BYTES])
{
    SHA256_CTX context;
    SHA256_Init(&context);
    SHA256_Update(&context, text.ptr, text.len);
    SHA256_Final(hash, &context);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_hex(struct lh_str text, uint8_t bytes[LH_TOKEN_HASH_BYTES])
{
    if (text.len != 2 * LH_TOKEN_HASH_BYTES)
        return false;
    for (size_t i = 0; i < LH_TOKEN_HASH_BYTES; i++) {
        int high = hex_digit(text.ptr[2 * i]), low = hex_digit(text.ptr[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        bytes[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static enum lh_status set_text(const struct entry *entry, char **text)
{
    if (entry->value.len == 0)
        return wrong(entry, "is empty");
    if (memchr(entry->value.ptr, '\0', entry->value.len) != NULL)
        return wrong(entry, "has a NUL");
    *text = strndup(entry->value.ptr, entry->value.len);
    return *text != NULL ? LH_OK : out_of_memory(entry);
}

static enum lh_status add_text(const struct entry *entry, char ***texts, uint32_t *count)
{
    if (*count == LH_TOKEN_PATTERNS_MAX)
        return wrong(entry, "is one too many");
    char **grown = realloc(*texts, (*count + 1) * sizeof **texts);
    if (grown == NULL)
        return out_of_memory(entry);
    *texts = grown;
    enum lh_status status = set_text(entry, &grown[*count]);
    *count += status == LH_OK;
    return status;
}

/* ---- a token's keys ---- */

static enum lh_status set_name(const struct entry *entry, struct lh_token *token)
{
    struct lh_str name = entry->value;
    if (name.len == 0 || name.len > LH_TOKEN_NAME_BYTES_MAX || !lh_index_name_is_valid(name))
        return wrong(entry, "a name has 1 to 64 letters, digits and ._-");
    memcpy(token->name, name.ptr, name.len);
    return LH_OK;
}

static enum lh_status set_token(const struct entry *entry, struct lh_token *token)
{
    const char *reason = wrong_token_text(entry->value);
    if (reason != NULL)
        return wrong(entry, reason);
    if (token->has_hash)
        return wrong(entry, "stands beside sha256: one of the two");
    hash_of(entry->value, token->hash);
    token->has_hash = true;
    return LH_OK;
}

static enum lh_status set_sha256(const struct entry *entry, struct lh_token *token)
{
    if (token->has_hash)
        return wrong(entry, "stands beside token: one of the two");
    token->has_hash = read_hex(entry->value, token->hash);
    return token->has_hash ? LH_OK : wrong(entry, "is not 64 hexadecimal digits");
}

static enum lh_status add_scope(const struct entry *entry, struct lh_token *token)
{
    if (lh_str_eq(entry->value, LH_STR("read")))
        token->scopes |= LH_SCOPE_READ;
    else if (lh_str_eq(entry->value, LH_STR("write")))
        token->scopes |= LH_SCOPE_WRITE;
    else if (lh_str_eq(entry->value, LH_STR("admin")))
        token->scopes |= LH_SCOPE_READ | LH_SCOPE_WRITE | LH_SCOPE_ADMIN;
    else
        return wrong(entry, "is none of read, write and admin");
    return LH_OK;
}

static enum lh_status add_index(const struct entry *entry, struct lh_token *token)
{
    struct lh_str name = entry->value;
    if (name.len > 0 && name.ptr[name.len - 1] == '*')
        name.len--;
    if (!lh_index_name_is_valid(name) && !lh_str_eq(entry->value, LH_STR("*")))
        return wrong(entry, "is neither an index's name nor the beginning of one and a *");
    return add_text(entry, &token->indexes, &token->index_count);
}

static enum lh_status add_prefix(const struct entry *entry, struct lh_token *token)
{
    return add_text(entry, &token->prefixes, &token->prefix_count);
}

static enum lh_status set_limit(const struct entry *entry, uint64_t *limit)
{
    const char *reason = lh_config_read_integer(entry->value, true, limit);
    return reason == NULL && *limit != LH_LIMIT_UNSET
               ? LH_OK
               : wrong(entry, reason != NULL ? reason : "is too large");
}

static enum lh_status set_requests(const struct entry *entry, struct lh_token *token)
{
    return set_limit(entry, &token->requests_per_second);
}

static enum lh_status set_bytes(const struct entry *entry, struct lh_token *token)
{
    return set_limit(entry, &token->bytes_per_second);
}

static const struct {
    const char *name;
    bool is_list;
    bool is_number; /* or text with a unit */
    enum lh_status (*set)(const struct entry *entry, struct lh_token *token);
} token_keys[] = {
    {"name", false, false, set_name},
    {"token", false, false, set_token},
    {"sha256", false, false, set_sha256},
    {"scopes", true, false, add_scope},
    {"indexes", true, false, add_index},
    {"prefixes", true, false, add_prefix},
    {"requests_per_second", false, true, set_requests},
    {"bytes_per_second", false, true, set_bytes},
};

/* `name` is the key behind "token[N].", with its own "[M]" when it is of a list. */
static enum lh_status set_token_key(const struct entry *entry, struct lh_token *token,
                                    const char *name)
{
    size_t len = strcspn(name, "[");
    for (size_t i = 0; i < sizeof token_keys / sizeof *token_keys; i++) {
        if (strlen(token_keys[i].name) != len || memcmp(token_keys[i].name, name, len) != 0)
            continue;
        if (token_keys[i].is_list != (name[len] == '['))
            return wrong(entry, token_keys[i].is_list ? "is not a list" : "is a list");
        if (entry->type != LH_CONFIG_STRING &&
            !(token_keys[i].is_number && entry->type == LH_CONFIG_INTEGER))
            return wrong(entry, token_keys[i].is_number ? "is neither a whole number nor a size"
                                                        : "is not a string in quotes");
        return token_keys[i].set(entry, token);
    }
    return wrong(entry, "unknown key");
}

/* ---- the file ---- */

/* The token that "token[N].name" is of, and its "name"; the list grows by one at most, as the
 * values come in the order of the lines. */
static enum lh_status token_of(const struct entry *entry, struct lh_token **token,
                               const char **name)
{
    struct lh_secrets *secrets = entry->reader->secrets;
    char *end;
    unsigned long number = strtoul(entry->key + strlen("token["), &end, 10);
    assert(end[0] == ']' && end[1] == '.');
    *name = end + 2;
    if (number >= LH_TOKENS_MAX)
        return wrong(entry, "is one token too many");
    if (number >= secrets->token_count) {
        struct lh_token *grown = realloc(secrets->tokens, (number + 1) * sizeof *grown);
        if (grown == NULL)
            return out_of_memory(entry);
        secrets->tokens = grown;
        while (secrets->token_count <= number)
            grown[secrets->token_count++] = (struct lh_token){.requests_per_second = LH_LIMIT_UNSET,
                                                              .bytes_per_second = LH_LIMIT_UNSET};
    }
    *token = &secrets->tokens[number];
    return LH_OK;
}

static enum lh_status set_peer_token(const struct entry *entry)
{
    const char *reason = wrong_token_text(entry->value);
    return reason != NULL ? wrong(entry, reason)
                          : set_text(entry, &entry->reader->secrets->peer_token);
}

static enum lh_status set_value(const char *key, struct lh_str value, enum lh_config_type type,
                                unsigned line, void *arg, struct lh_error *error)
{
    struct reader *reader = arg;
    struct lh_secrets *secrets = reader->secrets;
    struct entry entry = {reader, key, value, type, line, error};
    struct lh_token *token = NULL;
    const char *name = NULL;
    if (lh_str_has_prefix(lh_str_of(key), LH_STR("token["))) {
        enum lh_status status = token_of(&entry, &token, &name);
        return status == LH_OK ? set_token_key(&entry, token, name) : status;
    }
    if (lh_str_has_prefix(lh_str_of(key), LH_STR("token.")))
        return wrong(&entry, "tokens stand under [[token]], in two brackets");
    if (type != LH_CONFIG_STRING)
        return wrong(&entry, "is not a string in quotes");
    if (strcmp(key, "s3.access_key_id") == 0)
        return set_text(&entry, &secrets->s3_access_key_id);
    if (strcmp(key, "s3.secret_access_key") == 0)
        return set_text(&entry, &secrets->s3_secret_access_key);
    if (strcmp(key, "s3.session_token") == 0)
        return set_text(&entry, &secrets->s3_session_token);
    if (strcmp(key, "peer.token") == 0)
        return set_peer_token(&entry);
    return wrong(&entry, "unknown key");
}

/* What spans keys. */
static enum lh_status check(const struct reader *reader, struct lh_error *error)
{
    const struct lh_secrets *secrets = reader->secrets;
    for (uint32_t i = 0; i < secrets->token_count; i++) {
        const struct lh_token *token = &secrets->tokens[i];
        const char *missing = token->name[0] == '\0' ? "name"
                              : !token->has_hash     ? "token or sha256"
                              : token->scopes == 0   ? "scopes"
                                                     : NULL;
        if (missing != NULL)
            return lh_error_set(error, LH_CONFIG, "%s: token[%u]: has no %s", reader->path, i,
                                missing);
        for (uint32_t j = 0; j < i; j++) {
            const struct lh_token *other = &secrets->tokens[j];
            bool is_same = memcmp(other->hash, token->hash, sizeof token->hash) == 0;
            if (is_same || strcmp(other->name, token->name) == 0)
                return lh_error_set(error, LH_CONFIG, "%s: token[%u]: is the same %s as token[%u]",
                                    reader->path, i, is_same ? "token" : "name", j);
        }
    }
    if ((secrets->s3_access_key_id == NULL) != (secrets->s3_secret_access_key == NULL))
        return lh_error_set(error, LH_CONFIG,
                            "%s: s3: access_key_id and secret_access_key need one another",
                            reader->path);
    return LH_OK;
}

/* All of the file, through one descriptor: what was checked is what is read. */
static enum lh_status read_bytes(const char *path, struct lh_buf *bytes, struct lh_error *error)
{
    struct stat about;
    ssize_t got = 0;
    enum lh_status status = LH_OK;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &about) != 0)
        status = lh_error_sys(error, LH_CONFIG, errno, "%s", path);
    else if (!S_ISREG(about.st_mode))
        status = lh_error_set(error, LH_CONFIG, "%s: is not a file", path);
    else if ((about.st_mode & 077) != 0)
        status = lh_error_set(error, LH_CONFIG,
                              "%s: has mode %04o: others than its owner can get at it; "
                              "chmod 600 closes it",
                              path, (unsigned)about.st_mode & 07777);
    else if (about.st_size > LH_CONFIG_FILE_BYTES_MAX)
        status = lh_error_set(error, LH_CONFIG, "%s: is larger than %u bytes", path,
                              LH_CONFIG_FILE_BYTES_MAX);
    else if (lh_buf_reserve(bytes, LH_CONFIG_FILE_BYTES_MAX) != LH_OK)
        status = lh_error_set(error, LH_OUT_OF_MEMORY, "%s: not enough memory", path);
    while (status == LH_OK && bytes->len < LH_CONFIG_FILE_BYTES_MAX &&
           (got = read(fd, bytes->ptr + bytes->len, LH_CONFIG_FILE_BYTES_MAX - bytes->len)) > 0)
        bytes->len += (size_t)got;
    if (got < 0)
        status = lh_error_sys(error, LH_CONFIG, errno, "%s", path);
    if (fd >= 0)
        close(fd);
    return status;
}

enum lh_status lh_secrets_read(const char *path, struct lh_secrets **secrets,
                               struct lh_error *error)
{
    struct lh_buf bytes = LH_BUF_EMPTY;
    struct reader reader = {path, NULL};
    enum lh_status status = read_bytes(path, &bytes, error);
    if (status == LH_OK && (reader.secrets = calloc(1, sizeof *reader.secrets)) == NULL)
        status = lh_error_set(error, LH_OUT_OF_MEMORY, "%s: not enough memory", path);
    if (status == LH_OK)
        status = lh_toml_read_lists(lh_buf_str(&bytes), path, set_value, &reader, error);
    if (status == LH_OK)
        status = check(&reader, error);
    if (status == LH_OK)
        *secrets = reader.secrets;
    else
        lh_secrets_destroy(reader.secrets);
    if (bytes.ptr != NULL)
        OPENSSL_cleanse(bytes.ptr, bytes.cap);
    lh_buf_deinit(&bytes);
    return status;
}

enum lh_status lh_secrets_read_configured(const struct lh_config *config,
                                          struct lh_secrets **secrets, struct lh_error *error)
{
    const char *key = "gateway.secrets_path";
    struct lh_str path = lh_config_string(config, key);
    if (path.len == 0) {
        key = "queryd.secrets_path";
        path = lh_config_string(config, key);
    }
    *secrets = NULL;
    enum lh_status status = path.len > 0 ? lh_secrets_read(path.ptr, secrets, error) : LH_OK;
    bool is_in_the_file = status != LH_OK && strlen(error->text) > path.len + 1 &&
                          error->text[path.len] == ':' &&
                          isdigit((unsigned char)error->text[path.len + 1]);
    if (status != LH_OK && !is_in_the_file)
        lh_config_blame(config, key, error);
    return status;
}

static void destroy_text(char *text)
{
    if (text != NULL)
        OPENSSL_cleanse(text, strlen(text));
    free(text);
}

static void destroy_texts(char **texts, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        free(texts[i]);
    free(texts);
}

void lh_secrets_destroy(struct lh_secrets *secrets)
{
    if (secrets == NULL)
        return;
    for (uint32_t i = 0; i < secrets->token_count; i++) {
        destroy_texts(secrets->tokens[i].indexes, secrets->tokens[i].index_count);
        destroy_texts(secrets->tokens[i].prefixes, secrets->tokens[i].prefix_count);
    }
    free(secrets->tokens);
    destroy_text(secrets->s3_access_key_id);
    destroy_text(secrets->s3_secret_access_key);
    destroy_text(secrets->s3_session_token);
    destroy_text(secrets->peer_token);
    free(secrets);
}

/* ---- asking ---- */

/* Without a branch on what differs. */
static bool is_same_hash(const uint8_t *a, const uint8_t *b)
{
    uint64_t x[LH_TOKEN_HASH_BYTES / 8], y[LH_TOKEN_HASH_BYTES / 8];
    memcpy(x, a, sizeof x);
    memcpy(y, b, sizeof y);
    return ((x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]) | (x[3] ^ y[3])) == 0;
}

const struct lh_token *lh_secrets_find(const struct lh_secrets *secrets, struct lh_str token)
{
    uint8_t hash[LH_TOKEN_HASH_BYTES];
    uint32_t found = secrets->token_count;
    if (token.len > LH_TOKEN_BYTES_MAX)
        return NULL;
    hash_of(token, hash);
    for (uint32_t i = 0; i < secrets->token_count; i++)
        found = is_same_hash(secrets->tokens[i].hash, hash) ? i : found;
    return found < secrets->token_count ? &secrets->tokens[found] : NULL;
}

/* Whether `name` is `pattern`, or begins as it does up to its *. */
static bool pattern_matches(struct lh_str pattern, struct lh_str name)
{
    if (pattern.len > 0 && pattern.ptr[pattern.len - 1] == '*')
        return lh_str_has_prefix(name, (struct lh_str){pattern.ptr, pattern.len - 1});
    return lh_str_eq(pattern, name);
}

bool lh_token_is_limited(const struct lh_token *token)
{
    return token->index_count + token->prefix_count > 0;
}

bool lh_token_allows_index(const struct lh_token *token, struct lh_str name)
{
    bool allows = !lh_token_is_limited(token);
    for (uint32_t i = 0; i < token->index_count && !allows; i++)
        allows = pattern_matches(lh_str_of(token->indexes[i]), name);
    return allows;
}

bool lh_token_allows_prefix(const struct lh_token *token, struct lh_str prefix)
{
    bool allows = !lh_token_is_limited(token);
    for (uint32_t i = 0; i < token->prefix_count && !allows; i++)
        allows = lh_str_has_prefix(prefix, lh_str_of(token->prefixes[i]));
    return allows;
}

static void append_lines(struct lh_buf *lines, char *const *texts, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        lh_buf_append_str(lines, lh_str_of(texts[i]));
        lh_buf_append_char(lines, '\n'); /* neither names nor keys have one */
    }
}

/* The next of them; false at the end. */
static bool next_line(struct lh_str *left, struct lh_str *line)
{
    if (left->len == 0)
        return false;
    size_t len = (size_t)((const char *)memchr(left->ptr, '\n', left->len) - left->ptr);
    *line = (struct lh_str){left->ptr, len};
    *left = (struct lh_str){left->ptr + len + 1, left->len - len - 1};
    return true;
}

enum lh_status lh_reach_init(struct lh_reach *reach, const struct lh_token *token)
{
    *reach = (struct lh_reach){.is_limited = token != NULL && lh_token_is_limited(token)};
    if (!reach->is_limited)
        return LH_OK;
    append_lines(&reach->indexes, token->indexes, token->index_count);
    append_lines(&reach->prefixes, token->prefixes, token->prefix_count);
    bool has_failed = lh_buf_failed(&reach->indexes) || lh_buf_failed(&reach->prefixes);
    return has_failed ? LH_OUT_OF_MEMORY : LH_OK;
}

void lh_reach_deinit(struct lh_reach *reach)
{
    lh_buf_deinit(&reach->indexes);
    lh_buf_deinit(&reach->prefixes);
}

bool lh_reach_allows_index(const struct lh_reach *reach, struct lh_str name)
{
    struct lh_str left = lh_buf_str(&reach->indexes);
    bool allows = !reach->is_limited;
    for (struct lh_str line; !allows && next_line(&left, &line);)
        allows = pattern_matches(line, name);
    return allows;
}

bool lh_reach_allows_prefix(const struct lh_reach *reach, struct lh_str prefix)
{
    struct lh_str left = lh_buf_str(&reach->prefixes);
    bool allows = !reach->is_limited;
    for (struct lh_str line; !allows && next_line(&left, &line);)
        allows = lh_str_has_prefix(prefix, line);
    return allows;
}
