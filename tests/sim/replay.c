/* Stands in for libuuid and the wall clock. One thread. */
#include "sim/replay.h"

#include "unit/seed.h"
#include <string.h>

static uint64_t state;
static uint64_t wall_ms;

void __wrap_uuid_generate(unsigned char uuid[16]);
uint64_t __wrap_lh_clock_wall_ms(void);

void lh_sim_replay_from(uint64_t seed)
{
    state = seed ^ 0x5eed;
    wall_ms = 1700000000000;
}

void __wrap_uuid_generate(unsigned char uuid[16])
{
    uint64_t halves[2] = {lh_test_next(&state), lh_test_next(&state)};
    memcpy(uuid, halves, sizeof halves);
}

/* Each look is a second later. */
uint64_t __wrap_lh_clock_wall_ms(void)
{
    return wall_ms += 1000;
}
