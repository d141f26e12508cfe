// What tests ask of the simulator, through ctypes.
#include "cusim.h"

#define PCDARTS_EXPORT extern "C" __attribute__((visibility("default")))

PCDARTS_EXPORT void cusim_set_order(unsigned order) { cusim::order = order; }
PCDARTS_EXPORT void cusim_reset() { cusim::counters = {}; }
PCDARTS_EXPORT int64_t cusim_launches() { return cusim::counters.launches; }
PCDARTS_EXPORT int64_t cusim_bytes() { return cusim::counters.loaded + cusim::counters.stored; }
