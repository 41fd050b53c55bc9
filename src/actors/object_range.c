/* Reading a Range header. Any thread; pure. */
#include "actors/object_range.h"

bool lh_range_parse(struct lh_str header, struct lh_range *range)
{
    static const struct lh_str unit = {"bytes=", 6};
    *range = (struct lh_range){.last = UINT64_MAX};
    header = lh_str_trim(header);
    if (header.len < unit.len || !lh_str_eq_nocase((struct lh_str){header.ptr, unit.len}, unit))
        return false;
    header = lh_str_trim((struct lh_str){header.ptr + unit.len, header.len - unit.len});
    const char *dash = header.len > 0 ? memchr(header.ptr, '-', header.len) : NULL;
    if (dash == NULL)
        return false;
    struct lh_str first = {header.ptr, (size_t)(dash - header.ptr)};
    struct lh_str last = {dash + 1, header.len - first.len - 1};
    range->is_suffix = first.len == 0;
    if (!range->is_suffix && !lh_str_to_u64(first, &range->first))
        return false;
    if (last.len == 0)
        return !range->is_suffix;
    return lh_str_to_u64(last, &range->last) && (range->is_suffix || range->first <= range->last);
}
