// Passes A and B, of which forward and backward have need: compiled once.
#include "mixed_cell/schedule.cuh"
#include "mixed_cell/stage_kernel.cuh"

namespace pcdarts {

void run_stage(Stage a, const std::vector<StageItem>& items, bool together, void* stream) {
  size_t first = 0;
  do {  // as many at a time as a kernel's arguments hold
    first = take_items(items, first, a);
    launch_stage(a, together, stream);
    a.pools = -1, a.edges = 0;
  } while (first < items.size());
}

}  // namespace pcdarts
