/* What is random or has to do with time in the server, from a seed instead: uuids and the wall
 * clock. A program gets it by being linked with --wrap=uuid_generate,--wrap=lh_clock_wall_ms. */
#ifndef LH_TESTS_SIM_REPLAY_H
#define LH_TESTS_SIM_REPLAY_H

#include <stdint.h>

void lh_sim_replay_from(uint64_t seed);

#endif
