/* Which kernels this process uses. Any thread; no state: the processor is asked each time. */
#include "hnsw/kernels.h"

static const struct lh__kernels *const lh__kernels_all[] = {
#if defined(__x86_64__)
    &lh__kernels_avx512_vnni, &lh__kernels_avx512,
    &lh__kernels_avx2,
#elif defined(__aarch64__)
    &lh__kernels_neon,
#endif
    &lh__kernels_scalar,      NULL,
};

const struct lh__kernels *lh__kernels_at(size_t i)
{
    return i < sizeof lh__kernels_all / sizeof lh__kernels_all[0] ? lh__kernels_all[i] : NULL;
}

const struct lh__kernels *lh__kernels_best(void)
{
    size_t i = 0;
    while (!lh__kernels_all[i]->usable()) {
        i++; /* ends at the scalar ones, which every processor has */
    }
    return lh__kernels_all[i];
}
