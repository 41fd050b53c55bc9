/* The headers of fbin and npy files, checked against the file's size. One thread.
 *
 *     fbin   u32 rows | u32 dimensions | float32 rows            (little-endian)
 *     npy    "\x93NUMPY" | u8 major | u8 minor | u16 (major 1) or u32 (2) header length | header |
 *            rows; the header is a Python dict: {'descr': '<f4', 'fortran_order': False,
 *            'shape': (rows, dimensions), }                      (NumPy's format specification) */
#include "source.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define NPY_HEADER_BYTES_MAX 65536u /* NumPy writes 118 */

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "rows are used as they lie in the file");

static uint32_t u32_at(const unsigned char *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
           (uint32_t)bytes[3] << 24;
}

static enum lh_status read_at(const struct lh_source *source, void *out, size_t len, off_t at,
                              struct lh_error *error)
{
    ssize_t got = pread(source->fd, out, len, at);
    if (got < 0)
        return lh_error_sys(error, LH_IO, errno, "%.80s", source->name);
    if ((size_t)got < len)
        return lh_error_set(error, LH_INVALID_ARGUMENT, "%.80s: ends within its header",
                            source->name);
    return LH_OK;
}

static enum lh_status check_shape(const struct lh_source *source, struct lh_error *error)
{
    if (source->dimension == 0 || source->dimension > LH_DIMENSION_MAX)
        return lh_error_set(error, LH_INVALID_ARGUMENT,
                            "%.80s: %u dimensions; an index has 1 to %u", source->name,
                            source->dimension, LH_DIMENSION_MAX);
    uint64_t row_bytes = source->dimension * sizeof(float);
    uint64_t have = source->bytes - (uint64_t)source->rows_at;
    if (have % row_bytes != 0 || source->rows != have / row_bytes)
        return lh_error_set(error, LH_INVALID_ARGUMENT,
                            "%.60s: its header says %ju rows of %u float32, but %ju bytes follow",
                            source->name, (uintmax_t)source->rows, source->dimension,
                            (uintmax_t)have);
    return LH_OK;
}

enum lh_status lh_source_read_fbin(struct lh_source *source, struct lh_error *error)
{
    unsigned char header[8];
    enum lh_status status = read_at(source, header, sizeof header, 0, error);
    if (status != LH_OK)
        return status;
    source->rows = u32_at(header);
    source->dimension = u32_at(header + 4);
    source->rows_at = sizeof header;
    return check_shape(source, error);
}

/* The text behind 'name': in the dict; NULL: it has no such key. */
static const char *npy_value(const char *dict, const char *name)
{
    char key[32];
    snprintf(key, sizeof key, "'%s':", name);
    const char *at = strstr(dict, key);
    if (at == NULL)
        return NULL;
    at += strlen(key);
    while (*at == ' ')
        at++;
    return at;
}

/* "(rows, dimensions)" and nothing else. */
static bool parse_shape(const char *text, uint64_t *rows, uint64_t *dimension)
{
    char *end;
    if (*text != '(' || !isdigit((unsigned char)text[1]))
        return false;
    *rows = strtoull(text + 1, &end, 10);
    if (*end++ != ',')
        return false;
    while (*end == ' ')
        end++;
    if (!isdigit((unsigned char)*end))
        return false;
    *dimension = strtoull(end, &end, 10);
    if (*end == ',')
        end++;
    return *end == ')';
}

static enum lh_status parse_npy(struct lh_source *source, const char *dict, struct lh_error *error)
{
    const char *descr = npy_value(dict, "descr");
    const char *order = npy_value(dict, "fortran_order");
    const char *shape = npy_value(dict, "shape");
    uint64_t dimension = 0;
    if (descr == NULL || order == NULL || shape == NULL)
        return lh_error_set(error, LH_INVALID_ARGUMENT,
                            "%.80s: its npy header lacks descr, fortran_order or shape",
                            source->name);
    if (strncmp(descr, "'<f4'", 5) != 0)
        return lh_error_set(error, LH_INVALID_ARGUMENT,
                            "%.60s: holds %.*s, not float32 ('<f4'); save a.astype('float32')",
                            source->name, (int)strcspn(descr, ",}"), descr);
    if (strncmp(order, "False", 5) != 0)
        return lh_error_set(error, LH_INVALID_ARGUMENT,
                            "%.60s: is in Fortran order; save numpy.ascontiguousarray(a)",
                            source->name);
    if (!parse_shape(shape, &source->rows, &dimension))
        return lh_error_set(error, LH_INVALID_ARGUMENT,
                            "%.60s: its shape is %.*s, not (rows, dimensions)", source->name,
                            (int)strcspn(shape, ")") + 1, shape);
    source->dimension = dimension > LH_DIMENSION_MAX ? LH_DIMENSION_MAX + 1 : (uint32_t)dimension;
    return check_shape(source, error);
}

enum lh_status lh_source_read_npy(struct lh_source *source, struct lh_error *error)
{
    unsigned char start[12];
    enum lh_status status = read_at(source, start, sizeof start, 0, error);
    if (status != LH_OK)
        return status;
    if (memcmp(start, "\x93NUMPY", 6) != 0)
        return lh_error_set(error, LH_INVALID_ARGUMENT, "%.80s: is no npy file", source->name);
    if (start[6] != 1 && start[6] != 2)
        return lh_error_set(error, LH_INVALID_ARGUMENT,
                            "%.80s: is npy version %d.%d; 1 and 2 can be read", source->name,
                            start[6], start[7]);
    uint32_t at = start[6] == 1 ? 10 : 12;
    uint32_t len = start[6] == 1 ? start[8] | (uint32_t)start[9] << 8 : u32_at(start + 8);
    if (len > NPY_HEADER_BYTES_MAX)
        return lh_error_set(error, LH_INVALID_ARGUMENT, "%.80s: its npy header has %u bytes",
                            source->name, len);
    char *dict = malloc(len + 1);
    if (dict == NULL)
        return lh_error_set(error, LH_OUT_OF_MEMORY, "not enough memory");
    status = read_at(source, dict, len, at, error);
    if (status == LH_OK) {
        dict[len] = '\0';
        source->rows_at = (off_t)at + len;
        status = parse_npy(source, dict, error);
    }
    free(dict);
    return status;
}
