/* The steps that every body shares. Runs on a decoder thread; no state but the decoder's scratch.
 *
 * Invariant: what is stored in a batch has been checked to its last byte. simdjson's first stage
 * has checked the whole text for UTF-8 and for closed strings by then. */
#include "ext/reader.h"
#include "ext/floats.h"
#include "ext/json.h"
#include "ext/number.h"

#include <cassert>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "base64 vectors are little-endian");

namespace lh__reader
{

namespace
{

/* A decoder keeps scratch for bodies up to this size; simdjson takes about six times as much. */
constexpr size_t kept_capacity_bytes = 8u << 20;

/* A multiple of 4 characters, and longer than the text of LH_DIMENSION_MAX floats. */
constexpr size_t base64_chars_max = (LH_DIMENSION_MAX * 4 / 3 + 1) * 4;

/* "line 12: items[3].vector" */
void write_place(const context &c, const char *field, char *out, size_t cap)
{
    int used = 0;
    out[0] = 0;
    if (c.line != 0) {
        used = snprintf(out, cap, "line %llu: ", (unsigned long long)c.line);
    }
    if (c.list != nullptr) {
        used += snprintf(out + used, cap - (size_t)used, "%s[%u]", c.list, c.index);
    }
    snprintf(out + used, cap - (size_t)used, "%s%s",
             c.list != nullptr && field[0] != 0 && field[0] != '[' ? "." : "", field);
}

const char *kind_of(value v)
{
    switch (token(v).ptr[0]) {
    case '"':
        return "a string";
    case '{':
        return "an object";
    case '[':
        return "an array";
    case 't':
    case 'f':
        return "a boolean";
    case 'n':
        return "null";
    default:
        return "a number";
    }
}

bool starts_value(char first)
{
    return first == '"' || first == '{' || first == '[' || first == 't' || first == 'f' ||
           first == 'n' || first == '-' || (first >= '0' && first <= '9');
}

/* A word or string where a number should be, as it can be shown. */
struct lh_str word_at(const char *at)
{
    size_t len = *at == '"';
    while (len < 64 && at[len] != 0 && strchr(",]} \t\r\n", at[len]) == nullptr) {
        len++;
    }
    return {at, len};
}

bool is_infinite_word(struct lh_str word)
{
    return lh_str_eq(word, LH_STR("NaN")) || lh_str_eq(word, LH_STR("nan")) ||
           lh_str_eq(word, LH_STR("Infinity")) || lh_str_eq(word, LH_STR("-Infinity")) ||
           lh_str_eq(word, LH_STR("inf")) || lh_str_eq(word, LH_STR("-inf"));
}

enum lh_status refuse_element(const context &c, const char *field, const lh__floats &floats)
{
    char place[48];
    struct lh_str word = word_at(floats.at);
    shown found(word);
    snprintf(place, sizeof place, "%s[%u]", field, floats.count);
    switch (floats.end) {
    case lh__floats_end::overflow:
        return refuse(c, place, LH_INVALID_ARGUMENT, "%s is beyond the range of float32",
                      found.text);
    case lh__floats_end::too_many:
        return refuse(c, field, LH_LIMIT_EXCEEDED, "more than %u numbers", LH_DIMENSION_MAX);
    case lh__floats_end::not_number:
        if (is_infinite_word(word)) {
            return refuse(c, place, LH_INVALID_ARGUMENT, "%s is not a finite number", found.text);
        }
        if (word.len > 0 && strchr("\"{[tfn", word.ptr[0]) != nullptr) {
            return refuse(c, place, LH_INVALID_ARGUMENT, "must be a number, found %s", found.text);
        }
        return refuse_broken(c, simdjson::NUMBER_ERROR);
    default:
        return refuse_broken(c, simdjson::TAPE_ERROR);
    }
}

enum lh_status read_array(const context &c, const char *field, value v, uint32_t &dimension,
                          const char *&end)
{
    simdjson::ondemand::array array;
    std::string_view text;
    error_code code = v.get_array().get(array);
    if (code == simdjson::SUCCESS) {
        code = array.raw_json().get(text);
    }
    if (code != simdjson::SUCCESS) {
        return refuse_broken(c, code);
    }
    lh__floats floats = lh__floats_read(text.data() + 1, c.decoder->row, LH_DIMENSION_MAX);
    if (floats.end != lh__floats_end::whole) {
        return refuse_element(c, field, floats);
    }
    assert(floats.at <= text.data() + text.size());
    if (floats.count == 0) {
        return refuse(c, field, LH_INVALID_ARGUMENT, "an empty vector");
    }
    dimension = floats.count;
    end = floats.at;
    return LH_OK;
}

enum lh_status read_base64_chars(const context &c, const char *field, struct lh_str chars,
                                 uint32_t &dimension)
{
    size_t len = 0;
    if (chars.len == 0) {
        return refuse(c, field, LH_INVALID_ARGUMENT, "an empty vector");
    }
    if (chars.len > base64_chars_max) {
        return refuse(c, field, LH_LIMIT_EXCEEDED, "more than %u numbers", LH_DIMENSION_MAX);
    }
    if (!lh_base64_decode(chars, c.decoder->row, &len)) {
        return refuse(c, field, LH_INVALID_ARGUMENT, "not base64 (RFC 4648, padded)");
    }
    if (len % 4 != 0) {
        return refuse(c, field, LH_INVALID_ARGUMENT,
                      "%zu bytes of base64 are no whole number of float32", len);
    }
    if (len / 4 > LH_DIMENSION_MAX) {
        return refuse(c, field, LH_LIMIT_EXCEEDED, "more than %u numbers", LH_DIMENSION_MAX);
    }
    dimension = (uint32_t)(len / 4);
    return LH_OK;
}

/* Base64 with escaped slashes, as some JSON writers put them. It is unescaped into a copy: a line
 * that is left for the next call is read again, so its text stays as it is. */
enum lh_status read_escaped_base64(const context &c, const char *field, struct lh_str quoted,
                                   uint32_t &dimension)
{
    struct lh_json_fault fault;
    size_t len;
    char *copy = static_cast<char *>(malloc(quoted.len));
    if (copy == nullptr) {
        return lh_error_set(c.error, LH_OUT_OF_MEMORY, "not enough memory");
    }
    enum lh_status status = lh_json_unescape(quoted, copy, &len, &fault)
                                ? read_base64_chars(c, field, {copy, len}, dimension)
                                : refuse_broken(c, simdjson::STRING_ERROR);
    free(copy);
    return status;
}

enum lh_status read_base64(const context &c, const char *field, value v, uint32_t &dimension,
                           const char *&end)
{
    struct lh_str quoted = token(v);
    if (quoted.len < 2 || quoted.ptr[quoted.len - 1] != '"') {
        return refuse_broken(c, simdjson::STRING_ERROR);
    }
    end = quoted.ptr + quoted.len;
    if (memchr(quoted.ptr, '\\', quoted.len) != nullptr) {
        return read_escaped_base64(c, field, quoted, dimension);
    }
    return read_base64_chars(c, field, {quoted.ptr + 1, quoted.len - 2}, dimension);
}

/* Base64 can spell NaN and infinity, whose exponents are all ones. */
bool all_finite(const float *row, uint32_t dimension)
{
    uint32_t largest = 0;
    for (uint32_t i = 0; i < dimension; i++) {
        uint32_t bits;
        memcpy(&bits, &row[i], 4);
        bits &= 0x7f800000u;
        largest = bits > largest ? bits : largest;
    }
    return largest != 0x7f800000u;
}

enum lh_status refuse_not_finite(const context &c, const char *field, uint32_t dimension)
{
    const float *row = c.decoder->row;
    char place[48];
    uint32_t i = 0;
    while (std::isfinite(row[i])) {
        i++;
    }
    assert(i < dimension);
    snprintf(place, sizeof place, "%s[%u]", field, i);
    return refuse(c, place, LH_INVALID_ARGUMENT, "%s is not a finite number",
                  std::isnan(row[i]) ? "NaN"
                  : row[i] > 0       ? "Infinity"
                                     : "-Infinity");
}

} // namespace

enum lh_status refuse(const context &c, const char *field, enum lh_status status,
                      const char *format, ...)
{
    char place[96];
    char text[160];
    va_list args;
    write_place(c, field, place, sizeof place);
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size_t len = strlen(place);
    bool joined = len == 0 || place[len - 1] == ' ';
    return lh_error_set(c.error, status, "%s%s%s", place, joined ? "" : ": ", text);
}

enum lh_status refuse_broken(const context &c, error_code code)
{
    struct lh_json_fault fault;
    context document_only = c;
    document_only.list = nullptr;
    if (code == simdjson::MEMALLOC) {
        return lh_error_set(c.error, LH_OUT_OF_MEMORY, "not enough memory to read the body");
    }
    if (code == simdjson::CAPACITY) {
        return lh_error_set(c.error, LH_BODY_TOO_LARGE, "the body is larger than 4 GiB");
    }
    if (lh_json_check(c.text, LH_JSON_DEPTH_MAX, nullptr, nullptr, &fault)) {
        return refuse(document_only, "", LH_INVALID_JSON, "%s", simdjson::error_message(code));
    }
    return refuse(document_only, "", LH_INVALID_JSON, "byte %zu: %s", fault.offset, fault.reason);
}

enum lh_status refuse_type(const context &c, const char *field, const char *wanted, value v)
{
    struct lh_str found = token(v);
    if (!starts_value(found.ptr[0])) {
        if (is_infinite_word(found)) {
            return refuse(c, field, LH_INVALID_ARGUMENT, "must be %s, found %s", wanted,
                          shown(found).text);
        }
        return refuse_broken(c, simdjson::TAPE_ERROR);
    }
    return refuse(c, field, LH_INVALID_ARGUMENT, "must be %s, found %s", wanted, kind_of(v));
}

shown::shown(struct lh_str s) noexcept
{
    size_t max = sizeof text - sizeof "...";
    size_t len = s.len < max ? s.len : max;
    while (len > 0 && len < s.len && ((unsigned char)s.ptr[len] & 0xc0) == 0x80) {
        len--; /* not in the middle of a character */
    }
    for (size_t i = 0; i < len; i++) {
        text[i] = (unsigned char)s.ptr[i] < 0x20 || s.ptr[i] == 0x7f ? '?' : s.ptr[i];
    }
    snprintf(text + len, sizeof text - len, "%s", len < s.len ? "..." : "");
}

struct lh_str token(value v)
{
    std::string_view text = v.raw_json_token();
    size_t len = text.size();
    while (len > 1 && strchr(" \t\r\n", text[len - 1]) != nullptr) {
        len--;
    }
    return {text.data(), len};
}

enum lh_status open(const context &c, document &doc, object &root)
{
    error_code code =
        c.decoder->parser.iterate(c.text.ptr, c.text.len, c.text.len + simdjson::SIMDJSON_PADDING)
            .get(doc);
    if (code == simdjson::EMPTY) {
        return refuse(c, "", LH_INVALID_JSON, "the body is empty");
    }
    if (code == simdjson::SUCCESS) {
        code = doc.get_object().get(root);
    }
    if (code == simdjson::INCORRECT_TYPE) {
        struct lh_json_fault fault;
        if (lh_json_check(c.text, LH_JSON_DEPTH_MAX, nullptr, nullptr, &fault)) {
            return refuse(c, "", LH_INVALID_ARGUMENT, "the body must be a JSON object");
        }
    }
    return code == simdjson::SUCCESS ? LH_OK : refuse_broken(c, code);
}

enum lh_status close(const context &c, document &doc)
{
    bool at_end = doc.current_location().error() == simdjson::OUT_OF_BOUNDS;
    return at_end ? LH_OK : refuse_broken(c, simdjson::TRAILING_CONTENT);
}

struct lh_str key_of(simdjson::ondemand::raw_json_string key)
{
    const char *name = key.raw();
    size_t len = 0;
    while (name[len] != '"') { /* simdjson has seen that every string ends */
        len += name[len] == '\\' ? 2 : 1;
    }
    return {name, len};
}

enum lh_status find_name(const context &c, struct lh_str name, const char *const *names,
                         unsigned count, unsigned &seen, unsigned &found)
{
    for (unsigned i = 0; i < count; i++) {
        if (lh_str_eq(name, lh_str_of(names[i]))) {
            if ((seen & 1u << i) != 0) {
                return refuse(c, names[i], LH_INVALID_ARGUMENT, "the member is there twice");
            }
            seen |= 1u << i;
            found = i;
            return LH_OK;
        }
    }
    return refuse(c, "", LH_INVALID_ARGUMENT, "unknown member \"%s\"", shown(name).text);
}

enum lh_status read_integer(const context &c, const char *field, value v, uint32_t min,
                            uint32_t max, uint32_t &number)
{
    struct lh_str text = token(v);
    uint64_t wide = 0;
    bool is_integer = text.len > 0;
    for (size_t i = 0; i < text.len; i++) {
        is_integer = is_integer && ((text.ptr[i] >= '0' && text.ptr[i] <= '9') ||
                                    (i == 0 && text.len > 1 && text.ptr[i] == '-'));
    }
    if (!is_integer || (text.ptr[0] == '0' && text.len > 1)) {
        char wanted[48];
        if (text.ptr[0] == '-' || (text.ptr[0] >= '0' && text.ptr[0] <= '9')) {
            return refuse(c, field, LH_INVALID_ARGUMENT,
                          "must be an integer from %u to %u, found %s", min, max, shown(text).text);
        }
        snprintf(wanted, sizeof wanted, "an integer from %u to %u", min, max);
        return refuse_type(c, field, wanted, v);
    }
    if (!lh_str_to_u64(text, &wide) || wide < min || wide > max) {
        return refuse(c, field, LH_LIMIT_EXCEEDED, "%s is not within %u to %u", shown(text).text,
                      min, max);
    }
    number = (uint32_t)wide;
    return LH_OK;
}

enum lh_status read_bool(const context &c, const char *field, value v, bool &truth)
{
    struct lh_str text = token(v);
    truth = lh_str_eq(text, LH_STR("true"));
    if (truth || lh_str_eq(text, LH_STR("false"))) {
        return LH_OK;
    }
    if (text.ptr[0] == 't' || text.ptr[0] == 'f') {
        return refuse_broken(c, simdjson::T_ATOM_ERROR);
    }
    return refuse_type(c, field, "true or false", v);
}

enum lh_status read_string(const context &c, const char *field, value v, size_t max, char *out,
                           size_t &len)
{
    struct lh_json_fault fault;
    struct lh_str text = token(v);
    if (text.ptr[0] != '"') {
        return refuse_type(c, field, "a string", v);
    }
    /* The longest spelling of a byte is \u00XX. */
    if (text.len > max * 6 + 2) {
        return refuse(c, field, LH_LIMIT_EXCEEDED, "more than the limit of %zu bytes", max);
    }
    char *room = static_cast<char *>(malloc(text.len));
    if (room == nullptr) {
        return lh_error_set(c.error, LH_OUT_OF_MEMORY, "not enough memory");
    }
    bool good = lh_json_unescape(text, room, &len, &fault);
    if (good && len <= max) {
        memcpy(out, room, len);
    }
    free(room);
    if (!good) {
        return refuse_broken(c, simdjson::STRING_ERROR);
    }
    if (len > max) {
        return refuse(c, field, LH_LIMIT_EXCEEDED, "%zu bytes, the limit is %zu", len, max);
    }
    return LH_OK;
}

enum lh_status read_id(const context &c, const char *field, value v, struct lh_batch *batch,
                       struct lh_str &id)
{
    struct lh_json_fault fault;
    struct lh_str text = token(v);
    size_t len = 0;
    if (text.ptr[0] != '"') {
        return refuse_type(c, field, "a string", v);
    }
    if (text.len > LH_ID_BYTES_MAX * 6 + 2) {
        return refuse(c, field, LH_LIMIT_EXCEEDED, "more than the limit of %u bytes",
                      LH_ID_BYTES_MAX);
    }
    char *room = lh_batch_bytes(batch, text.len);
    if (room == nullptr) {
        return lh_error_set(c.error, LH_OUT_OF_MEMORY, "not enough memory");
    }
    if (!lh_json_unescape(text, room, &len, &fault)) {
        return refuse_broken(c, simdjson::STRING_ERROR);
    }
    if (len == 0) {
        return refuse(c, field, LH_INVALID_ARGUMENT, "an empty id");
    }
    if (len > LH_ID_BYTES_MAX) {
        return refuse(c, field, LH_LIMIT_EXCEEDED, "%zu bytes, the limit is %u", len,
                      LH_ID_BYTES_MAX);
    }
    lh_batch_give_back(batch, text.len - len);
    id = {room, len};
    return LH_OK;
}

enum lh_status read_vector(const context &c, const char *field, value v, uint32_t &dimension,
                           const char *&end)
{
    char first = token(v).ptr[0];
    if (first == '[') {
        return read_array(c, field, v, dimension, end);
    }
    if (first != '"') {
        return refuse_type(c, field, "an array of numbers or a base64 string", v);
    }
    enum lh_status status = read_base64(c, field, v, dimension, end);
    if (status == LH_OK && !all_finite(c.decoder->row, dimension)) {
        status = refuse_not_finite(c, field, dimension);
    }
    return status;
}

enum lh_status read_metadata(const context &c, const char *field, value v, struct lh_batch *batch,
                             struct lh_str &metadata)
{
    simdjson::ondemand::object object;
    std::string_view raw;
    struct lh_json_fault fault;
    size_t len = 0;
    if (token(v).ptr[0] != '{') {
        return refuse_type(c, field, "an object", v);
    }
    error_code code = v.get_object().get(object);
    if (code == simdjson::SUCCESS) {
        code = object.raw_json().get(raw);
    }
    if (code != simdjson::SUCCESS) {
        return refuse_broken(c, code);
    }
    char *room = lh_batch_bytes(batch, raw.size());
    if (room == nullptr) {
        return lh_error_set(c.error, LH_OUT_OF_MEMORY, "not enough memory");
    }
    if (!lh_json_check({raw.data(), raw.size()}, LH_METADATA_DEPTH_MAX, room, &len, &fault)) {
        return refuse(c, field, LH_INVALID_JSON, "byte %zu: %s",
                      (size_t)(raw.data() - c.text.ptr) + fault.offset, fault.reason);
    }
    if (len > LH_METADATA_BYTES_MAX) {
        return refuse(c, field, LH_LIMIT_EXCEEDED, "%zu bytes, the limit is %u", len,
                      LH_METADATA_BYTES_MAX);
    }
    lh_batch_give_back(batch, raw.size() - len);
    metadata = {room, len};
    return LH_OK;
}

enum lh_status pad(struct lh_buf *body, struct lh_error *error)
{
    if (lh_buf_reserve(body, simdjson::SIMDJSON_PADDING) != LH_OK) {
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory to read the body");
    }
    memset(body->ptr + body->len, 0, simdjson::SIMDJSON_PADDING);
    return LH_OK;
}

void shrink(struct lh_decoder *decoder)
{
    if (decoder->parser.capacity() > kept_capacity_bytes) {
        decoder->parser = simdjson::ondemand::parser();
    }
}

} // namespace lh__reader
