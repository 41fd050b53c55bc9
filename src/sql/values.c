/* DuckDB's values as JSON and CSV. Any thread; no state.
 *
 * DuckDB formats no nested value itself, and its numbers are wider than what JSON readers keep: so
 * every type is written here, from the vectors as they lie in memory. */
#include "sql/sql_internal.h"

#include "ext/number.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define EXACT_MAX          9007199254740992ll /* 2^53: up to it, doubles are exact */
#define MICROS_A_SECOND    1000000ll
#define BIGNUM_HEADER      3u /* sign and length */
#define DECIMAL_DIGITS_MAX 40u

typedef __int128 wide; /* HUGEINT, DECIMAL(38) */

#define APPEND(out, literal) lh_buf_append((out), "" literal, sizeof(literal) - 1)

/* ---- numbers ---- */

static void append_wide_digits(struct lh_buf *out, unsigned __int128 magnitude)
{
    char digits[DECIMAL_DIGITS_MAX];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + (unsigned)(magnitude % 10));
        magnitude /= 10;
    } while (magnitude > 0);
    lh_buf_append(out, digits + at, sizeof digits - at);
}

/* A string when a double would not hold it. */
static void append_unsigned(struct lh_buf *out, unsigned __int128 magnitude, bool is_negative)
{
    bool is_exact = magnitude <= EXACT_MAX;
    if (!is_exact)
        lh_buf_append_char(out, '"');
    if (is_negative)
        lh_buf_append_char(out, '-');
    append_wide_digits(out, magnitude);
    if (!is_exact)
        lh_buf_append_char(out, '"');
}

static void append_signed(struct lh_buf *out, wide value)
{
    bool is_negative = value < 0;
    append_unsigned(out, is_negative ? -(unsigned __int128)value : (unsigned __int128)value,
                    is_negative);
}

static void append_decimal(struct lh_buf *out, wide value, unsigned scale)
{
    unsigned __int128 magnitude = value < 0 ? -(unsigned __int128)value : (unsigned __int128)value;
    unsigned __int128 one = 1;
    bool is_exact = magnitude <= EXACT_MAX;
    for (unsigned i = 0; i < scale; i++)
        one *= 10;
    if (!is_exact)
        lh_buf_append_char(out, '"');
    if (value < 0)
        lh_buf_append_char(out, '-');
    append_wide_digits(out, magnitude / one);
    if (scale > 0)
        lh_buf_append_char(out, '.');
    magnitude %= one;
    for (one /= 10; one > 0; one /= 10) /* its zeros too: they are the type's */
        lh_buf_append_char(out, (char)('0' + (unsigned)(magnitude / one % 10)));
    if (!is_exact)
        lh_buf_append_char(out, '"');
}

static void append_double(struct lh_buf *out, double value, bool is_float)
{
    if (isnan(value))
        APPEND(out, "\"NaN\"");
    else if (isinf(value))
        lh_buf_append_str(out, value < 0 ? LH_STR("\"-Infinity\"") : LH_STR("\"Infinity\""));
    else if (is_float)
        lh_number_append_f32(out, (float)value);
    else
        lh_number_append_f64(out, value);
}

/* A BIGNUM: three bytes of sign and length, then its magnitude, big-endian; of a negative one every
 * bit is inverted. By long division: nobody has many of them. */
static void append_bignum(struct lh_buf *out, const unsigned char *bytes, size_t len)
{
    bool is_negative = len > 0 && (bytes[0] & 0x80) == 0;
    size_t count = len > BIGNUM_HEADER ? len - BIGNUM_HEADER : 0;
    unsigned char *magnitude = malloc(count + 1);
    char *digits = malloc(3 * count + 2);
    size_t written = 0, first = 0;
    if (magnitude == NULL || digits == NULL) {
        out->failed = true;
        free(magnitude);
        free(digits);
        return;
    }
    for (size_t i = 0; i < count; i++)
        magnitude[i] = (unsigned char)(bytes[BIGNUM_HEADER + i] ^ (is_negative ? 0xff : 0));
    do {
        unsigned rest = 0;
        for (size_t i = first; i < count; i++) {
            rest = rest << 8 | magnitude[i];
            magnitude[i] = (unsigned char)(rest / 10);
            rest %= 10;
        }
        digits[written++] = (char)('0' + rest);
        while (first < count && magnitude[first] == 0)
            first++;
    } while (first < count);
    lh_buf_append_char(out, '"');
    if (is_negative)
        lh_buf_append_char(out, '-');
    while (written > 0)
        lh_buf_append_char(out, digits[--written]);
    lh_buf_append_char(out, '"');
    free(magnitude);
    free(digits);
}

/* ---- time ---- */

static void append_date(struct lh_buf *out, duckdb_date date)
{
    if (date.days == INT32_MAX || date.days == -INT32_MAX) {
        lh_buf_append_str(out, date.days < 0 ? LH_STR("-infinity") : LH_STR("infinity"));
        return;
    }
    duckdb_date_struct parts = duckdb_from_date(date);
    /* ISO 8601 has four digits for a year; more need a sign. */
    const char *format =
        parts.year >= 0 && parts.year <= 9999 ? "%04d-%02d-%02d" : "%+06d-%02d-%02d";
    lh_buf_printf(out, format, parts.year, parts.month, parts.day);
}

/* "T" and a time of `nanos` since midnight, with as many digits of the second as it has. */
static void append_clock(struct lh_buf *out, int64_t nanos)
{
    int64_t seconds = nanos / 1000000000;
    int64_t rest = nanos % 1000000000;
    lh_buf_printf(out, "%02d:%02d:%02d", (int)(seconds / 3600), (int)(seconds / 60 % 60),
                  (int)(seconds % 60));
    if (rest % 1000 != 0)
        lh_buf_printf(out, ".%09d", (int)rest);
    else if (rest != 0)
        lh_buf_printf(out, ".%06d", (int)(rest / 1000));
}

static void append_timestamp(struct lh_buf *out, int64_t value, int64_t units_a_second, bool is_utc)
{
    int64_t day = 86400 * units_a_second;
    int64_t days = value / day, rest = value % day;
    if (value == INT64_MAX || value == -INT64_MAX) {
        lh_buf_append_str(out, value < 0 ? LH_STR("-infinity") : LH_STR("infinity"));
        return;
    }
    if (rest < 0) {
        rest += day;
        days--;
    }
    append_date(out, (duckdb_date){(int32_t)days});
    lh_buf_append_char(out, 'T');
    append_clock(out, rest * (1000000000 / units_a_second));
    if (is_utc)
        lh_buf_append_char(out, 'Z');
}

static void append_time_tz(struct lh_buf *out, duckdb_time_tz value)
{
    duckdb_time_tz_struct parts = duckdb_from_time_tz(value);
    int offset = parts.offset < 0 ? -parts.offset : parts.offset;
    int64_t seconds = (parts.time.hour * 60ll + parts.time.min) * 60 + parts.time.sec;
    append_clock(out, (seconds * MICROS_A_SECOND + parts.time.micros) * 1000);
    lh_buf_printf(out, "%c%02d:%02d", parts.offset < 0 ? '-' : '+', offset / 3600,
                  offset / 60 % 60);
}

/* ISO 8601: years and months, days, and hours, minutes and seconds, each with its sign. */
static void append_interval(struct lh_buf *out, duckdb_interval value)
{
    int64_t seconds = value.micros / MICROS_A_SECOND;
    int64_t micros = value.micros % MICROS_A_SECOND;
    lh_buf_append_char(out, 'P');
    if (value.months / 12 != 0)
        lh_buf_printf(out, "%dY", value.months / 12);
    if (value.months % 12 != 0)
        lh_buf_printf(out, "%dM", value.months % 12);
    if (value.days != 0)
        lh_buf_printf(out, "%dD", value.days);
    if (value.micros != 0 || (value.months == 0 && value.days == 0))
        lh_buf_append_char(out, 'T');
    if (seconds / 3600 != 0)
        lh_buf_printf(out, "%" PRId64 "H", seconds / 3600);
    if (seconds / 60 % 60 != 0)
        lh_buf_printf(out, "%" PRId64 "M", seconds / 60 % 60);
    if (micros != 0)
        lh_buf_printf(out, "%s%" PRId64 ".%06" PRId64 "S", value.micros < 0 ? "-" : "",
                      imaxabs(seconds % 60), imaxabs(micros));
    else if (seconds % 60 != 0 || (value.micros == 0 && value.months == 0 && value.days == 0))
        lh_buf_printf(out, "%" PRId64 "S", seconds % 60);
}

/* ---- text ---- */

static void append_bits(struct lh_buf *out, const unsigned char *bytes, size_t len)
{
    /* The first byte says how many bits of the second are padding. */
    for (size_t i = len > 0 ? 8 + bytes[0] : 0; i < 8 * len; i++)
        lh_buf_append_char(out, (char)('0' + (bytes[i / 8] >> (7 - i % 8) & 1)));
}

static void append_uuid(struct lh_buf *out, duckdb_hugeint value)
{
    uint64_t upper = (uint64_t)value.upper ^ (1ull << 63); /* stored so that it sorts as a number */
    lh_buf_printf(out, "%08" PRIx64 "-%04" PRIx64 "-%04" PRIx64 "-%04" PRIx64 "-%012" PRIx64,
                  upper >> 32, upper >> 16 & 0xffff, upper & 0xffff, value.lower >> 48,
                  value.lower & 0xffffffffffff);
}

static void append_enum(struct lh_buf *out, duckdb_vector vector, duckdb_logical_type type,
                        uint64_t row)
{
    const void *data = duckdb_vector_get_data(vector);
    uint64_t index = 0;
    switch (duckdb_enum_internal_type(type)) {
    case DUCKDB_TYPE_UTINYINT:
        index = ((const uint8_t *)data)[row];
        break;
    case DUCKDB_TYPE_USMALLINT:
        index = ((const uint16_t *)data)[row];
        break;
    default:
        index = ((const uint32_t *)data)[row];
        break;
    }
    char *text = duckdb_enum_dictionary_value(type, index);
    lh_buf_append_json_string(out, lh_str_of(text != NULL ? text : ""));
    duckdb_free(text);
}

/* ---- nested ---- */

static void append_elements(struct lh_buf *out, duckdb_vector child, duckdb_logical_type type,
                            uint64_t first, uint64_t count)
{
    lh_buf_append_char(out, '[');
    for (uint64_t i = 0; i < count; i++) {
        if (i > 0)
            lh_buf_append_char(out, ',');
        lh__sql_append_value(out, child, type, first + i);
    }
    lh_buf_append_char(out, ']');
}

static void append_list(struct lh_buf *out, duckdb_vector vector, duckdb_logical_type type,
                        uint64_t row)
{
    duckdb_list_entry entry = ((duckdb_list_entry *)duckdb_vector_get_data(vector))[row];
    duckdb_logical_type child = duckdb_list_type_child_type(type);
    append_elements(out, duckdb_list_vector_get_child(vector), child, entry.offset, entry.length);
    duckdb_destroy_logical_type(&child);
}

static void append_fixed_array(struct lh_buf *out, duckdb_vector vector, duckdb_logical_type type,
                               uint64_t row)
{
    uint64_t size = duckdb_array_type_array_size(type);
    duckdb_logical_type child = duckdb_array_type_child_type(type);
    append_elements(out, duckdb_array_vector_get_child(vector), child, row * size, size);
    duckdb_destroy_logical_type(&child);
}

static void append_struct(struct lh_buf *out, duckdb_vector vector, duckdb_logical_type type,
                          uint64_t row)
{
    uint64_t count = duckdb_struct_type_child_count(type);
    lh_buf_append_char(out, '{');
    for (uint64_t i = 0; i < count; i++) {
        char *name = duckdb_struct_type_child_name(type, i);
        duckdb_logical_type child = duckdb_struct_type_child_type(type, i);
        if (i > 0)
            lh_buf_append_char(out, ',');
        lh_buf_append_json_string(out, lh_str_of(name != NULL ? name : ""));
        lh_buf_append_char(out, ':');
        lh__sql_append_value(out, duckdb_struct_vector_get_child(vector, i), child, row);
        duckdb_destroy_logical_type(&child);
        duckdb_free(name);
    }
    lh_buf_append_char(out, '}');
}

/* A map is a list of structs of two. */
static void append_map(struct lh_buf *out, duckdb_vector vector, duckdb_logical_type type,
                       uint64_t row)
{
    duckdb_list_entry entry = ((duckdb_list_entry *)duckdb_vector_get_data(vector))[row];
    duckdb_vector pairs = duckdb_list_vector_get_child(vector);
    duckdb_logical_type key = duckdb_map_type_key_type(type);
    duckdb_logical_type value = duckdb_map_type_value_type(type);
    lh_buf_append_char(out, '[');
    for (uint64_t i = entry.offset; i < entry.offset + entry.length; i++) {
        lh_buf_append_str(out, i > entry.offset ? LH_STR(",[") : LH_STR("["));
        lh__sql_append_value(out, duckdb_struct_vector_get_child(pairs, 0), key, i);
        lh_buf_append_char(out, ',');
        lh__sql_append_value(out, duckdb_struct_vector_get_child(pairs, 1), value, i);
        lh_buf_append_char(out, ']');
    }
    lh_buf_append_char(out, ']');
    duckdb_destroy_logical_type(&key);
    duckdb_destroy_logical_type(&value);
}

/* A union is a struct whose first child is the tag; what it says is the value alone. */
static void append_union(struct lh_buf *out, duckdb_vector vector, duckdb_logical_type type,
                         uint64_t row)
{
    const uint8_t *tags = duckdb_vector_get_data(duckdb_struct_vector_get_child(vector, 0));
    duckdb_logical_type member = duckdb_union_type_member_type(type, tags[row]);
    lh__sql_append_value(out, duckdb_struct_vector_get_child(vector, tags[row] + 1u), member, row);
    duckdb_destroy_logical_type(&member);
}

/* ---- any of them ---- */

static wide read_decimal(const void *data, duckdb_type internal, uint64_t row)
{
    switch (internal) {
    case DUCKDB_TYPE_SMALLINT:
        return ((const int16_t *)data)[row];
    case DUCKDB_TYPE_INTEGER:
        return ((const int32_t *)data)[row];
    case DUCKDB_TYPE_BIGINT:
        return ((const int64_t *)data)[row];
    default: {
        duckdb_hugeint value = ((const duckdb_hugeint *)data)[row];
        return (wide)((unsigned __int128)value.upper << 64 | value.lower);
    }
    }
}

/* True: it was a number or a boolean. */
static bool append_plain(struct lh_buf *out, const void *data, duckdb_logical_type type,
                         uint64_t row)
{
    switch (duckdb_get_type_id(type)) {
#define INTEGER(id, type_of, append)               \
    case DUCKDB_TYPE_##id:                         \
        append(out, ((const type_of *)data)[row]); \
        return true
        INTEGER(TINYINT, int8_t, append_signed);
        INTEGER(SMALLINT, int16_t, append_signed);
        INTEGER(INTEGER, int32_t, append_signed);
        INTEGER(BIGINT, int64_t, append_signed);
        INTEGER(UTINYINT, uint8_t, append_signed);
        INTEGER(USMALLINT, uint16_t, append_signed);
        INTEGER(UINTEGER, uint32_t, append_signed);
        INTEGER(UBIGINT, uint64_t, append_signed);
#undef INTEGER
    case DUCKDB_TYPE_HUGEINT:
        append_signed(out, read_decimal(data, DUCKDB_TYPE_HUGEINT, row));
        return true;
    case DUCKDB_TYPE_UHUGEINT:
        append_unsigned(out, (unsigned __int128)read_decimal(data, DUCKDB_TYPE_HUGEINT, row),
                        false);
        return true;
    case DUCKDB_TYPE_DECIMAL:
        append_decimal(out, read_decimal(data, duckdb_decimal_internal_type(type), row),
                       duckdb_decimal_scale(type));
        return true;
    case DUCKDB_TYPE_FLOAT:
        append_double(out, ((const float *)data)[row], true);
        return true;
    case DUCKDB_TYPE_DOUBLE:
        append_double(out, ((const double *)data)[row], false);
        return true;
    case DUCKDB_TYPE_BOOLEAN:
        lh_buf_append_str(out, ((const bool *)data)[row] ? LH_STR("true") : LH_STR("false"));
        return true;
    default:
        return false;
    }
}

/* True: it was a date or a time, which need no escaping; without its quotes. */
static bool append_moment(struct lh_buf *out, const void *data, duckdb_type id, uint64_t row)
{
    const int64_t *numbers = data;
    switch (id) {
    case DUCKDB_TYPE_DATE:
        append_date(out, ((const duckdb_date *)data)[row]);
        return true;
    case DUCKDB_TYPE_TIME:
        append_clock(out, numbers[row] * 1000);
        return true;
    case DUCKDB_TYPE_TIME_NS:
        append_clock(out, numbers[row]);
        return true;
    case DUCKDB_TYPE_TIME_TZ:
        append_time_tz(out, ((const duckdb_time_tz *)data)[row]);
        return true;
    case DUCKDB_TYPE_TIMESTAMP:
    case DUCKDB_TYPE_TIMESTAMP_TZ:
        append_timestamp(out, numbers[row], MICROS_A_SECOND, id == DUCKDB_TYPE_TIMESTAMP_TZ);
        return true;
    case DUCKDB_TYPE_TIMESTAMP_S:
        append_timestamp(out, numbers[row], 1, false);
        return true;
    case DUCKDB_TYPE_TIMESTAMP_MS:
        append_timestamp(out, numbers[row], 1000, false);
        return true;
    case DUCKDB_TYPE_TIMESTAMP_NS:
        append_timestamp(out, numbers[row], 1000000000, false);
        return true;
    case DUCKDB_TYPE_INTERVAL:
        append_interval(out, ((const duckdb_interval *)data)[row]);
        return true;
    case DUCKDB_TYPE_UUID:
        append_uuid(out, ((const duckdb_hugeint *)data)[row]);
        return true;
    default:
        return false;
    }
}

static void append_text(struct lh_buf *out, const void *data, duckdb_type id, uint64_t row)
{
    duckdb_string_t text = ((const duckdb_string_t *)data)[row];
    const char *bytes = duckdb_string_t_data(&text);
    size_t len = duckdb_string_t_length(text);
    if (id == DUCKDB_TYPE_BLOB) {
        lh_buf_append_char(out, '"');
        lh_base64_append(out, bytes, len);
        lh_buf_append_char(out, '"');
    } else if (id == DUCKDB_TYPE_BIT) {
        lh_buf_append_char(out, '"');
        append_bits(out, (const unsigned char *)bytes, len);
        lh_buf_append_char(out, '"');
    } else if (id == DUCKDB_TYPE_BIGNUM) {
        append_bignum(out, (const unsigned char *)bytes, len);
    } else {
        lh_buf_append_json_string(out, (struct lh_str){bytes, len});
    }
}

void lh__sql_append_value(struct lh_buf *out, duckdb_vector vector, duckdb_logical_type type,
                          uint64_t row)
{
    duckdb_type id = duckdb_get_type_id(type);
    const void *data = duckdb_vector_get_data(vector);
    uint64_t *validity = duckdb_vector_get_validity(vector);
    if (validity != NULL && !duckdb_validity_row_is_valid(validity, row)) {
        APPEND(out, "null");
        return;
    }
    if (append_plain(out, data, type, row))
        return;
    switch (id) {
    case DUCKDB_TYPE_LIST:
        append_list(out, vector, type, row);
        return;
    case DUCKDB_TYPE_ARRAY:
        append_fixed_array(out, vector, type, row);
        return;
    case DUCKDB_TYPE_STRUCT:
        append_struct(out, vector, type, row);
        return;
    case DUCKDB_TYPE_MAP:
        append_map(out, vector, type, row);
        return;
    case DUCKDB_TYPE_UNION:
        append_union(out, vector, type, row);
        return;
    case DUCKDB_TYPE_ENUM:
        append_enum(out, vector, type, row);
        return;
    case DUCKDB_TYPE_SQLNULL:
        APPEND(out, "null");
        return;
    case DUCKDB_TYPE_VARCHAR:
    case DUCKDB_TYPE_BLOB:
    case DUCKDB_TYPE_BIT:
    case DUCKDB_TYPE_BIGNUM:
        append_text(out, data, id, row);
        return;
    default:
        lh_buf_append_char(out, '"');
        append_moment(out, data, id, row);
        lh_buf_append_char(out, '"');
        return;
    }
}
