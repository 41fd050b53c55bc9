/* The signer: canonical request, string to sign, derived key, signature. Any thread; keeps nothing.
 *
 * Invariant: no text that is made here but the signature itself depends on the secret. */
#include "store/s3_sign.h"

#include <assert.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <time.h>

#define ALGORITHM    "AWS4-HMAC-SHA256"
#define SHA256_BYTES 32u

static void to_hex(const unsigned char bytes[SHA256_BYTES], char hex[LH_SHA256_HEX_LEN + 1])
{
    for (unsigned i = 0; i < SHA256_BYTES; i++)
        snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
}

void lh_sha256_hex(struct lh_str bytes, char hex[LH_SHA256_HEX_LEN + 1])
{
    unsigned char digest[SHA256_BYTES];
    int ok = EVP_Digest(bytes.ptr, bytes.len, digest, NULL, EVP_sha256(), NULL);
    assert(ok == 1); /* fails only for a digest that the library does not have */
    (void)ok;
    to_hex(digest, hex);
}

void lh_s3_date(uint64_t wall_ms, char date[LH_S3_DATE_BYTES])
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    size_t len = strftime(date, LH_S3_DATE_BYTES, "%Y%m%dT%H%M%SZ", &utc);
    assert(len == LH_S3_DATE_BYTES - 1); /* years of four digits */
    (void)len;
}

void lh_s3_escape(struct lh_buf *out, struct lh_str text, bool keep_slashes)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                        (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' || c == '~' ||
                        (c == '/' && keep_slashes);
        if (is_plain)
            lh_buf_append_char(out, (char)c);
        else
            lh_buf_printf(out, "%%%02X", c);
    }
}

/* ---- canonical query and headers: sorted ---- */

static int compare(struct lh_str a, struct lh_str b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len > 0 ? memcmp(a.ptr, b.ptr, len) : 0;
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

/* Sorts a few pairs by name, then, with `by_value`, by value; equal ones keep their order. */
static void sort(struct lh_s3_pair *pairs, size_t count, bool by_value)
{
    for (size_t i = 1; i < count; i++) {
        struct lh_s3_pair pair = pairs[i];
        size_t at = i;
        for (; at > 0; at--) {
            int order = compare(pairs[at - 1].name, pair.name);
            if (order == 0 && by_value)
                order = compare(pairs[at - 1].value, pair.value);
            if (order <= 0)
                break;
            pairs[at] = pairs[at - 1];
        }
        pairs[at] = pair;
    }
}

/* The order is that of the escaped bytes, so escaping comes first. */
void lh_s3_query(struct lh_buf *out, const struct lh_s3_pair *query, size_t count)
{
    struct lh_s3_pair pairs[LH_S3_PAIRS_MAX];
    size_t ends[2 * LH_S3_PAIRS_MAX];
    struct lh_buf escaped = LH_BUF_EMPTY;
    assert(count <= LH_S3_PAIRS_MAX);
    for (size_t i = 0; i < count; i++) {
        lh_s3_escape(&escaped, query[i].name, false);
        ends[2 * i] = escaped.len;
        lh_s3_escape(&escaped, query[i].value, false);
        ends[2 * i + 1] = escaped.len;
    }
    if (lh_buf_failed(&escaped))
        out->failed = true;
    for (size_t i = 0, start = 0; i < count; i++) {
        pairs[i].name = (struct lh_str){escaped.ptr + start, ends[2 * i] - start};
        pairs[i].value = (struct lh_str){escaped.ptr + ends[2 * i], ends[2 * i + 1] - ends[2 * i]};
        start = ends[2 * i + 1];
    }
    if (!lh_buf_failed(out))
        sort(pairs, count, true);
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            lh_buf_append_char(out, '&');
        lh_buf_append_str(out, pairs[i].name);
        lh_buf_append_char(out, '=');
        lh_buf_append_str(out, pairs[i].value);
    }
    lh_buf_deinit(&escaped);
}

/* Without spaces at its ends, and with one for each run inside. */
static void append_value(struct lh_buf *out, struct lh_str value)
{
    value = lh_str_trim(value);
    for (size_t i = 0; i < value.len; i++)
        if (value.ptr[i] != ' ' || value.ptr[i - 1] != ' ')
            lh_buf_append_char(out, value.ptr[i]);
}

/* "name:value" lines into `lines`, "name;name" into `names`. */
static void canonical_headers(const struct lh_s3_signing *signing, struct lh_buf *lines,
                              struct lh_buf *names)
{
    struct lh_s3_pair pairs[LH_S3_PAIRS_MAX];
    assert(signing->header_count > 0 && signing->header_count <= LH_S3_PAIRS_MAX);
    memcpy(pairs, signing->headers, signing->header_count * sizeof pairs[0]);
    sort(pairs, signing->header_count, false);
    for (size_t i = 0; i < signing->header_count; i++) {
        if (i > 0 && lh_str_eq(pairs[i].name, pairs[i - 1].name)) {
            lh_buf_append_char(lines, ','); /* one of several values */
        } else {
            if (i > 0) {
                lh_buf_append_char(lines, '\n');
                lh_buf_append_char(names, ';');
            }
            lh_buf_append_str(lines, pairs[i].name);
            lh_buf_append_char(lines, ':');
            lh_buf_append_str(names, pairs[i].name);
        }
        append_value(lines, pairs[i].value);
    }
    lh_buf_append_char(lines, '\n');
}

/* ---- the signature ---- */

static void hmac(const void *key, size_t key_len, struct lh_str text,
                 unsigned char mac[SHA256_BYTES])
{
    const void *made =
        HMAC(EVP_sha256(), key, (int)key_len, (const unsigned char *)text.ptr, text.len, mac, NULL);
    assert(made != NULL);
    (void)made;
}

static void sign_text(const struct lh_s3_signing *signing, struct lh_str text,
                      struct lh_buf *prefixed_secret, char hex[LH_SHA256_HEX_LEN + 1])
{
    unsigned char key[SHA256_BYTES];
    hmac(prefixed_secret->ptr, prefixed_secret->len, (struct lh_str){signing->date, 8}, key);
    hmac(key, sizeof key, signing->region, key);
    hmac(key, sizeof key, signing->service, key);
    hmac(key, sizeof key, LH_STR("aws4_request"), key);
    hmac(key, sizeof key, text, key);
    to_hex(key, hex);
}

enum lh_status lh_s3_sign(const struct lh_s3_signing *signing, struct lh_buf *authorization)
{
    struct lh_buf canonical = LH_BUF_EMPTY, names = LH_BUF_EMPTY, text = LH_BUF_EMPTY;
    struct lh_buf secret = LH_BUF_EMPTY, scope = LH_BUF_EMPTY;
    char hex[LH_SHA256_HEX_LEN + 1];
    lh_buf_printf(&scope, "%.8s/%.*s/%.*s/aws4_request", signing->date, LH_STR_FMT(signing->region),
                  LH_STR_FMT(signing->service));
    lh_buf_printf(&canonical, "%.*s\n", LH_STR_FMT(signing->method));
    lh_s3_escape(&canonical, signing->path, true);
    lh_buf_append_char(&canonical, '\n');
    lh_s3_query(&canonical, signing->query, signing->query_count);
    lh_buf_append_char(&canonical, '\n');
    canonical_headers(signing, &canonical, &names);
    lh_buf_append_char(&canonical, '\n');
    lh_buf_append_str(&canonical, lh_buf_str(&names));
    lh_buf_append_char(&canonical, '\n');
    lh_buf_append_str(&canonical, signing->payload_hash);
    lh_buf_append_str(&secret, LH_STR("AWS4"));
    lh_buf_append_str(&secret, signing->credentials->secret_access_key);
    bool failed = lh_buf_failed(&canonical) || lh_buf_failed(&names) || lh_buf_failed(&secret) ||
                  lh_buf_failed(&scope);
    if (!failed) {
        lh_sha256_hex(lh_buf_str(&canonical), hex);
        lh_buf_printf(&text, ALGORITHM "\n%s\n%.*s\n%s", signing->date, LH_STR_FMT(scope), hex);
        failed = lh_buf_failed(&text);
    }
    if (!failed) {
        sign_text(signing, lh_buf_str(&text), &secret, hex);
        lh_buf_printf(authorization,
                      ALGORITHM " Credential=%.*s/%.*s, SignedHeaders=%.*s, Signature=%s",
                      LH_STR_FMT(signing->credentials->access_key_id), LH_STR_FMT(scope),
                      LH_STR_FMT(names), hex);
        failed = lh_buf_failed(authorization);
    }
    if (secret.ptr != NULL)
        OPENSSL_cleanse(secret.ptr, secret.len);
    lh_buf_deinit(&secret);
    lh_buf_deinit(&scope);
    lh_buf_deinit(&text);
    lh_buf_deinit(&names);
    lh_buf_deinit(&canonical);
    return failed ? LH_OUT_OF_MEMORY : LH_OK;
}
