/* Entity tags and the attribute that keeps them. Any thread; pure functions. */
#include "store/object_info.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#define VERSION      1u
#define TYPE_AT      25u
#define DEFAULT_TYPE "application/octet-stream"

size_t lh_object_attribute(const uint8_t hash[16], const char *content_type,
                           uint8_t out[LH_OBJECT_ATTRIBUTE_BYTES_MAX])
{
    size_t len = strcmp(content_type, DEFAULT_TYPE) == 0 ? 0 : strlen(content_type);
    out[0] = VERSION;
    memcpy(out + 1, hash, 16);
    memset(out + LH_OBJECT_ATTRIBUTE_TIME_AT, 0, 8);
    memcpy(out + TYPE_AT, content_type, len);
    return TYPE_AT + len;
}

uint64_t lh_object_attribute_time(const uint8_t *attribute)
{
    uint64_t modified_ns = 0;
    for (unsigned i = 0; i < 8; i++)
        modified_ns |= (uint64_t)attribute[LH_OBJECT_ATTRIBUTE_TIME_AT + i] << (8 * i);
    return modified_ns;
}

static bool is_in_force(const struct lh_disk_facts *facts)
{
    return facts->attribute_len >= TYPE_AT &&
           facts->attribute_len <= TYPE_AT + LH_CONTENT_TYPE_BYTES_MAX &&
           facts->attribute[0] == VERSION &&
           lh_object_attribute_time(facts->attribute) == facts->modified_ns;
}

/* It goes into a header: what is no visible ASCII was not written by a server. */
static bool is_type(const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (bytes[i] < 0x20 || bytes[i] > 0x7e)
            return false;
    return len > 0;
}

void lh_object_describe(const struct lh_disk_facts *facts, struct lh_object_stat *stat,
                        struct lh_object_info *info)
{
    bool has_attribute = is_in_force(facts);
    *stat = (struct lh_object_stat){
        .size = facts->bytes, .modified_ns = facts->modified_ns, .is_hashed = has_attribute};
    if (has_attribute)
        memcpy(stat->tag, facts->attribute + 1, sizeof stat->tag);
    else
        memcpy(stat->tag, &facts->number, sizeof facts->number);
    if (info == NULL)
        return;
    info->size = facts->bytes;
    info->modified_ms = facts->modified_ns / 1000000u;
    lh_object_etag(stat, info->etag);
    size_t len = has_attribute ? facts->attribute_len - TYPE_AT : 0;
    if (is_type(facts->attribute + TYPE_AT, len)) {
        memcpy(info->content_type, facts->attribute + TYPE_AT, len);
        info->content_type[len] = '\0';
    } else {
        strcpy(info->content_type, DEFAULT_TYPE);
    }
}

void lh_object_etag(const struct lh_object_stat *stat, char etag[LH_ETAG_BYTES_MAX + 1])
{
    uint64_t number;
    if (stat->is_hashed) {
        for (unsigned i = 0; i < sizeof stat->tag; i++)
            snprintf(etag + 2 * i, 3, "%02x", stat->tag[i]);
        return;
    }
    memcpy(&number, stat->tag, sizeof number);
    snprintf(etag, LH_ETAG_BYTES_MAX + 1, "%" PRIx64 "-%" PRIx64 "-%" PRIx64, stat->modified_ns,
             stat->size, number);
}

void lh_http_date(uint64_t ms, char text[LH_HTTP_DATE_BYTES])
{
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm = {0};
    gmtime_r(&seconds, &tm);
    /* A file's time may be in any year; one of five digits is no date, and equals none. */
    if (strftime(text, LH_HTTP_DATE_BYTES, "%a, %d %b %Y %H:%M:%S GMT", &tm) == 0)
        text[0] = '\0';
}

bool lh_etag_is_in(struct lh_str list, const char *etag, bool is_strong)
{
    struct lh_str wanted = lh_str_of(etag != NULL ? etag : "");
    list = lh_str_trim(list);
    if (etag == NULL || lh_str_eq(list, LH_STR("*")))
        return etag != NULL;
    while (list.len > 0) {
        bool is_weak = lh_str_has_prefix(list, LH_STR("W/\""));
        size_t skip = is_weak ? 2 : 0;
        const char *quote = list.ptr + skip;
        const char *end = *quote == '"' ? memchr(quote + 1, '"', list.len - skip - 1) : NULL;
        if (end == NULL) { /* no tag: what is behind the next comma may be one */
            const char *comma = memchr(list.ptr, ',', list.len);
            end = comma != NULL ? comma : list.ptr + list.len - 1;
        } else if (lh_str_eq((struct lh_str){quote + 1, (size_t)(end - quote) - 1}, wanted) &&
                   !(is_weak && is_strong)) {
            return true;
        }
        list.len -= (size_t)(end + 1 - list.ptr);
        list.ptr = end + 1;
        while (list.len > 0 && (*list.ptr == ',' || *list.ptr == ' ' || *list.ptr == '\t')) {
            list.ptr++;
            list.len--;
        }
    }
    return false;
}
