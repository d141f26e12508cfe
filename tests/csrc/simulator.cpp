// What tests ask of the simulator, through ctypes.
#include "cusim.h"

#define PCDARTS_EXPORT extern "C" __attribute__((visibility("default")))

PCDARTS_EXPORT void cusim_set_order(unsigned order) { cusim::order = order; }
PCDARTS_EXPORT void cusim_reset() { cusim::counters = {}; }
PCDARTS_EXPORT int64_t cusim_launches() { return cusim::counters.launches; }
// From here on launches are only noted: which kernel, as its place relative to this function, how
// many threads a block, how many bytes of shared memory.
PCDARTS_EXPORT void cusim_dry_run() { cusim::dry = true, cusim::launches.clear(); }
PCDARTS_EXPORT void cusim_launch(int64_t number, int64_t* place, int64_t* threads,
                                 int64_t* shared) {
  const cusim::Launch& launch = cusim::launches.at(static_cast<size_t>(number));
  *place = static_cast<const char*>(launch.kernel) - reinterpret_cast<const char*>(&cusim_dry_run);
  *threads = launch.threads, *shared = static_cast<int64_t>(launch.shared);
}
PCDARTS_EXPORT int64_t cusim_bytes() { return cusim::counters.loaded + cusim::counters.stored; }
