/* The rules of keys. Any thread; pure functions. */
#include "store/object_key.h"

static size_t escaped_length(struct lh_str segment)
{
    size_t len = segment.len;
    for (size_t i = 0; i < segment.len; i++)
        len += segment.ptr[i] == '%' ? 2 : 0;
    return len;
}

static enum lh_status check_segment(struct lh_str segment, unsigned number, struct lh_error *error)
{
    if (segment.len == 0)
        return lh_error_set(error, LH_INVALID_ARGUMENT, "key: segment %u is empty", number);
    if (lh_str_eq(segment, LH_STR(".")) || lh_str_eq(segment, LH_STR("..")))
        return lh_error_set(error, LH_INVALID_ARGUMENT, "key: segment %u is \"%.*s\"", number,
                            LH_STR_FMT(segment));
    if (escaped_length(segment) > LH_OBJECT_NAME_BYTES_MAX)
        return lh_error_set(error, LH_LIMIT_EXCEEDED,
                            "key: segment %u has %zu bytes (a %% counts as 3), at most %u", number,
                            escaped_length(segment), LH_OBJECT_NAME_BYTES_MAX);
    return LH_OK;
}

enum lh_status lh_object_key_check(struct lh_str key, struct lh_error *error)
{
    unsigned number = 1;
    size_t from = 0;
    if (key.len == 0 || key.len > LH_OBJECT_KEY_BYTES_MAX)
        return lh_error_set(error, LH_LIMIT_EXCEEDED, "key: %zu bytes, it has 1 to %u", key.len,
                            LH_OBJECT_KEY_BYTES_MAX);
    if (!lh_str_is_utf8(key))
        return lh_error_set(error, LH_INVALID_ARGUMENT, "key: it is not UTF-8");
    for (size_t i = 0; i < key.len; i++)
        if ((unsigned char)key.ptr[i] < 0x20 || key.ptr[i] == 0x7f)
            return lh_error_set(error, LH_INVALID_ARGUMENT,
                                "key: byte %zu is the control character 0x%02x", i + 1,
                                (unsigned char)key.ptr[i]);
    for (size_t i = 0; i <= key.len; i++) {
        if (i < key.len && key.ptr[i] != '/')
            continue;
        enum lh_status status =
            check_segment((struct lh_str){key.ptr + from, i - from}, number, error);
        if (status != LH_OK)
            return status;
        from = i + 1;
        number++;
    }
    return LH_OK;
}

size_t lh_object_key_path(struct lh_str key, char path[LH_OBJECT_PATH_BYTES])
{
    size_t len = 0;
    for (size_t i = 0; i < key.len; i++) {
        path[len++] = key.ptr[i];
        if (key.ptr[i] == '%') {
            path[len++] = '2';
            path[len++] = '5';
        }
    }
    path[len] = '\0';
    return len;
}

size_t lh_object_key_of_name(struct lh_str name, char *part, bool *is_aside)
{
    size_t len = 0;
    *is_aside = name.len > 1 && name.ptr[name.len - 1] == '%';
    name.len -= *is_aside ? 1 : 0;
    for (size_t i = 0; i < name.len; i++) {
        part[len++] = name.ptr[i];
        if (name.ptr[i] != '%')
            continue;
        if (name.len - i < 3 || memcmp(name.ptr + i, "%25", 3) != 0)
            return 0;
        i += 2;
    }
    return len;
}
