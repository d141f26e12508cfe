// What tests ask of the simulator, through ctypes.
#include "cusim.h"

#define PCDARTS_EXPORT extern "C" __attribute__((visibility("default")))

PCDARTS_EXPORT void cusim_set_order(unsigned order) { cusim::order = order; }

// Forgets the launches so far. From here on kernels run (0), run and count their bytes (1), or are
// only noted (2).
PCDARTS_EXPORT void cusim_restart(int mode) {
  cusim::launches.clear(), cusim::mode = static_cast<cusim::Mode>(mode);
}
PCDARTS_EXPORT int64_t cusim_launches() { return static_cast<int64_t>(cusim::launches.size()); }
// {the kernel, by its place relative to `cusim_restart`; threads and bytes of shared memory of a
// block; bytes moved}
PCDARTS_EXPORT void cusim_launch(int64_t number, int64_t (&values)[4]) {
  const cusim::Launch& launch = cusim::launches.at(static_cast<size_t>(number));
  const int64_t place =
      static_cast<const char*>(launch.kernel) - reinterpret_cast<const char*>(&cusim_restart);
  values[0] = place, values[1] = launch.threads, values[2] = launch.shared;
  values[3] = launch.moved;
}
PCDARTS_EXPORT int64_t cusim_moved() {
  int64_t moved = 0;
  for (const cusim::Launch& launch : cusim::launches) moved += launch.moved;
  return moved;
}
