// The processes of one run, where they take batch statistics over all of their batches together.
// No torch here: bind files say how they talk.
#pragma once
#include <cstdint>

#include "common/batch_norm.h"

namespace pcdarts {

// Every process has a batch of the same size and calls the same in the same order. `merge` and
// `add` replace what one process has measured by what all have, in the order of their ranks, so
// that all get the same bits. `gather` is for a device's memory: `own` [size] of every process, by
// rank, in `all` [count, size], in the order of its stream. count < 2: there are no others, and
// nothing is called.
struct Processes {
  int64_t count;
  void (*merge)(int64_t count, Moments* moments, int64_t size);
  void (*add)(int64_t count, double* sums, int64_t size);
  void (*gather)(int64_t count, const float* own, float* all, int64_t size);
};

PCDARTS_HD void merge_processes(const Processes& all, Moments* moments, int64_t size) {
  if (all.count > 1) all.merge(all.count, moments, size);
}
PCDARTS_HD void add_processes(const Processes& all, double* sums, int64_t size) {
  if (all.count > 1) all.add(all.count, sums, size);
}
// Images in the batches of all processes.
PCDARTS_HD int64_t images_of(const Processes& all, int64_t batch) {
  return all.count > 1 ? all.count * batch : batch;
}

}  // namespace pcdarts
