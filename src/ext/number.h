/* Numbers out: the shortest decimal text that reads back as the same float32 or double
 * (std::to_chars). */
#ifndef LH_EXT_NUMBER_H
#define LH_EXT_NUMBER_H

#include "base/buf.h"

#ifdef __cplusplus
extern "C" {
#endif

/* `value` must be finite: JSON has no other. */
void lh_number_append_f32(struct lh_buf *buf, float value);

void lh_number_append_f64(struct lh_buf *buf, double value);

/* `[1,2.5,...]` */
void lh_number_append_f32_array(struct lh_buf *buf, const float *values, uint32_t count);

/* Base64 (RFC 4648, padded) in and out. Decoding refuses anything but the alphabet and right
 * padding; `out` has room for 3 * len / 4. Returns false on bad text. */
bool lh_base64_decode(struct lh_str text, void *out, size_t *out_len);
void lh_base64_append(struct lh_buf *buf, const void *bytes, size_t len);

#ifdef __cplusplus
}
#endif

#endif
