// Channel tables in device memory, from kernel arguments: no copy from pageable host memory, so
// that a CUDA graph can hold the call.
#pragma once
#include "common/memory.cuh"

namespace pcdarts {

constexpr int kTablePart = 400;  // of both tables: arguments of a kernel have 4 KiB

struct TablePart {
  int first, count;
  int *source, *destination;
  int from[kTablePart], to[kTablePart];
};
static __global__ void __launch_bounds__(kTablePart)
    write_tables(const __grid_constant__ TablePart a) {
  const int i = static_cast<int>(threadIdx.x);
  if (i >= a.count) return;
  put(a.source + a.first + i, a.from[i]);
  put(a.destination + a.first + i, a.to[i]);
}

inline void launch_tables(const int64_t* source, const int64_t* destination, int64_t channels,
                          int* device_source, int* device_destination, void* stream) {
  for (int64_t first = 0; first < channels; first += kTablePart) {
    const int64_t left = channels - first;
    TablePart part = {};
    part.first = static_cast<int>(first);
    part.count = static_cast<int>(left < kTablePart ? left : kTablePart);
    part.source = device_source, part.destination = device_destination;
    for (int i = 0; i < part.count; ++i) {
      part.from[i] = static_cast<int>(source[first + i]);
      part.to[i] = static_cast<int>(destination[first + i]);
    }
    launch(&write_tables, 1, kTablePart, 0, stream, part);
  }
}

}  // namespace pcdarts
