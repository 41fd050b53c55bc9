/* JSON documents as a tree. Any thread; a document belongs to one at a time.
 *
 * A DOM element and an array's iterator are two words each (the document and a place on its tape)
 * and trivially copyable, so the C side carries their bytes. */
#include "ext/json_read.h"

#define SIMDJSON_EXCEPTIONS 0
#include <cstring>
#include <new>
#include <simdjson.h>
#include <string>

using simdjson::dom::element;

struct lh_json_doc {
    simdjson::dom::parser parser;
};

namespace
{

using iterator = simdjson::dom::array::iterator;
using member_iterator = simdjson::dom::object::iterator;

static_assert(sizeof(element) == sizeof(struct lh_json), "two words");
static_assert(sizeof(iterator) == sizeof(struct lh_json), "two words");
static_assert(std::is_trivially_copyable<element>::value, "carried as bytes");
static_assert(sizeof(member_iterator) == sizeof(struct lh_json), "two words");
static_assert(std::is_trivially_copyable<member_iterator>::value, "carried as bytes");
static_assert(std::is_trivially_copyable<iterator>::value, "carried as bytes");

struct lh_json pack(const element &e)
{
    struct lh_json value;
    std::memcpy(&value, &e, sizeof value);
    return value;
}

element unpack(struct lh_json value)
{
    element e;
    std::memcpy(static_cast<void *>(&e), &value, sizeof value);
    return e;
}

/* An iterator cannot be made empty: one is made of its bytes. */
template <typename Iterator> Iterator unpack_iterator(const void *const words[2])
{
    alignas(Iterator) unsigned char bytes[sizeof(Iterator)];
    std::memcpy(bytes, words, sizeof bytes);
    return *reinterpret_cast<Iterator *>(bytes);
}

} // namespace

extern "C" enum lh_status lh_json_doc_create(struct lh_str text, struct lh_json_doc **doc,
                                             struct lh_json *root, struct lh_error *error)
{
    if (text.len == 0) { // its pointer may be null, which the parser would copy from
        return lh_error_set(error, LH_INVALID_JSON, "%s", simdjson::error_message(simdjson::EMPTY));
    }
    struct lh_json_doc *made = new (std::nothrow) lh_json_doc;
    if (made == nullptr) {
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory to read JSON");
    }
    element e;
    simdjson::error_code code = made->parser.parse(text.ptr, text.len).get(e);
    if (code != simdjson::SUCCESS) {
        delete made;
        return lh_error_set(error, code == simdjson::MEMALLOC ? LH_OUT_OF_MEMORY : LH_INVALID_JSON,
                            "%s", simdjson::error_message(code));
    }
    *doc = made;
    *root = pack(e);
    return LH_OK;
}

extern "C" void lh_json_doc_destroy(struct lh_json_doc *doc)
{
    delete doc;
}

extern "C" bool lh_json_get(struct lh_json object, const char *name, struct lh_json *out)
{
    element found;
    if (unpack(object).at_key(name).get(found) != simdjson::SUCCESS) {
        return false;
    }
    *out = pack(found);
    return true;
}

extern "C" bool lh_json_get_str(struct lh_json object, const char *name, struct lh_str *out)
{
    struct lh_json value;
    return lh_json_get(object, name, &value) && lh_json_as_str(value, out);
}

extern "C" bool lh_json_get_u64(struct lh_json object, const char *name, uint64_t *out)
{
    struct lh_json value;
    return lh_json_get(object, name, &value) &&
           unpack(value).get_uint64().get(*out) == simdjson::SUCCESS;
}

extern "C" bool lh_json_get_f64(struct lh_json object, const char *name, double *out)
{
    struct lh_json value;
    return lh_json_get(object, name, &value) && lh_json_as_f64(value, out);
}

extern "C" bool lh_json_as_f64(struct lh_json value, double *out)
{
    return unpack(value).get_double().get(*out) == simdjson::SUCCESS;
}

extern "C" bool lh_json_as_str(struct lh_json value, struct lh_str *out)
{
    std::string_view text;
    if (unpack(value).get_string().get(text) != simdjson::SUCCESS) {
        return false;
    }
    *out = {text.data(), text.size()};
    return true;
}

extern "C" bool lh_json_as_bool(struct lh_json value, bool *out)
{
    return unpack(value).get_bool().get(*out) == simdjson::SUCCESS;
}

extern "C" bool lh_json_as_i64(struct lh_json value, int64_t *out)
{
    return unpack(value).get_int64().get(*out) == simdjson::SUCCESS;
}

extern "C" bool lh_json_is_null(struct lh_json value)
{
    return unpack(value).is_null();
}

extern "C" struct lh_json_iter lh_json_elements(struct lh_json array)
{
    struct lh_json_iter iter = {};
    simdjson::dom::array elements;
    if (unpack(array).get_array().get(elements) == simdjson::SUCCESS) {
        iterator begin = elements.begin(), end = elements.end();
        std::memcpy(iter.at, &begin, sizeof iter.at);
        std::memcpy(iter.end, &end, sizeof iter.end);
    }
    return iter;
}

extern "C" bool lh_json_next(struct lh_json_iter *iter, struct lh_json *out)
{
    if (std::memcmp(iter->at, iter->end, sizeof iter->at) == 0) {
        return false;
    }
    iterator at = unpack_iterator<iterator>(iter->at);
    *out = pack(*at);
    ++at;
    std::memcpy(iter->at, &at, sizeof iter->at);
    return true;
}

extern "C" struct lh_json_iter lh_json_members(struct lh_json object)
{
    struct lh_json_iter iter = {};
    simdjson::dom::object members;
    if (unpack(object).get_object().get(members) == simdjson::SUCCESS) {
        member_iterator begin = members.begin(), end = members.end();
        std::memcpy(iter.at, &begin, sizeof iter.at);
        std::memcpy(iter.end, &end, sizeof iter.end);
    }
    return iter;
}

extern "C" bool lh_json_member(struct lh_json_iter *iter, struct lh_str *name,
                               struct lh_json *value)
{
    if (std::memcmp(iter->at, iter->end, sizeof iter->at) == 0) {
        return false;
    }
    member_iterator at = unpack_iterator<member_iterator>(iter->at);
    std::string_view key = at.key();
    *name = {key.data(), key.size()};
    *value = pack(at.value());
    ++at;
    std::memcpy(iter->at, &at, sizeof iter->at);
    return true;
}

extern "C" bool lh_json_is_object(struct lh_json value)
{
    return unpack(value).is_object();
}

extern "C" bool lh_json_is_array(struct lh_json value)
{
    return unpack(value).is_array();
}

extern "C" uint32_t lh_json_count(struct lh_json array)
{
    simdjson::dom::array elements;
    uint32_t count = 0;
    struct lh_json value;
    if (unpack(array).get_array().get(elements) == simdjson::SUCCESS &&
        elements.size() < 0xFFFFFF) {
        return static_cast<uint32_t>(elements.size()); // the tape has it, up to there
    }
    for (struct lh_json_iter iter = lh_json_elements(array); lh_json_next(&iter, &value);) {
        count++;
    }
    return count;
}

extern "C" void lh_json_append(struct lh_buf *buf, struct lh_json value)
{
    try {
        std::string text = simdjson::minify(unpack(value));
        lh_buf_append(buf, text.data(), text.size());
    } catch (const std::bad_alloc &) {
        buf->failed = true;
    }
}
