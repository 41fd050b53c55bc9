/* What is known of an object beside its bytes, how that is kept with its file, and the comparisons
 * of entity tags (RFC 9110, section 8.8). */
#ifndef LH_STORE_OBJECT_INFO_H
#define LH_STORE_OBJECT_INFO_H

#include "base/limits.h"
#include "base/str.h"
#include "store/disk.h"

struct lh_object_info {
    uint64_t size;
    uint64_t modified_ms;             /* since 1970 */
    char etag[LH_ETAG_BYTES_MAX + 1]; /* without quotes */
    char content_type[LH_CONTENT_TYPE_BYTES_MAX + 1];
};

/* The same, as the index of keys keeps it. */
struct lh_object_stat {
    uint64_t size;
    uint64_t modified_ns;
    uint8_t tag[16];   /* XXH3 of the bytes, or what else the entity tag is made from */
    bool is_hashed;    /* `tag` is that hash */
    bool is_aside;     /* the file has the name that an object has whose own name is a folder's */
    bool is_tombstone; /* deleted while the walk that fills the index is under way */
};

/* The attribute of an object's file, beside which a content type is kept:
 *   u8 version = 1 | 16 bytes XXH3 of the object | u64 modified_ns | content type, to the end
 * little-endian. It counts only while the file's modification time is the one in it: whoever
 * changes the bytes in place takes it out of force. */
#define LH_OBJECT_ATTRIBUTE_BYTES_MAX (25u + LH_CONTENT_TYPE_BYTES_MAX)
_Static_assert(LH_OBJECT_ATTRIBUTE_BYTES_MAX <= LH_DISK_ATTRIBUTE_BYTES_MAX, "it is read whole");

#define LH_OBJECT_ATTRIBUTE_TIME_AT 17u
uint64_t lh_object_attribute_time(const uint8_t *attribute);

/* How long it is; its time is left to whoever sets it. */
size_t lh_object_attribute(const uint8_t hash[16], const char *content_type,
                           uint8_t out[LH_OBJECT_ATTRIBUTE_BYTES_MAX]);

/* What a file says of its object. `info` may be NULL. */
void lh_object_describe(const struct lh_disk_facts *facts, struct lh_object_stat *stat,
                        struct lh_object_info *info);

void lh_object_etag(const struct lh_object_stat *stat, char etag[LH_ETAG_BYTES_MAX + 1]);

/* A time as HTTP has it, such as "Sun, 06 Nov 1994 08:49:37 GMT". */
#define LH_HTTP_DATE_BYTES 30u
void lh_http_date(uint64_t ms, char text[LH_HTTP_DATE_BYTES]);

/* Whether a header's list of entity tags, or "*", has one for what is there (`etag`, NULL: nothing
 * is). If-Match compares strongly: a weak tag is like none; If-None-Match does not care. */
bool lh_etag_is_in(struct lh_str list, const char *etag, bool is_strong);

#endif
