// What a call's kernels start from: channel tables in device memory, which travel in kernel
// arguments (no copy from pageable host memory, so that a CUDA graph can hold the call), and 1 /
// standard deviation of norms whose variance is known.
#pragma once
#include "common/moments.cuh"

namespace pcdarts {

constexpr int kTablePart = 400;  // of both tables: arguments of a kernel have 4 KiB

struct Prepare {
  FillRstd norms;
  int first, count;
  int *source, *destination;
  int from[kTablePart], to[kTablePart];
};
static __global__ void __launch_bounds__(kTablePart)
    prepare_kernel(const __grid_constant__ Prepare a) {
  const int64_t i = int64_t{blockIdx.x} * kTablePart + threadIdx.x;
  fill_rstd(a.norms, i);
  if (i >= a.count) return;
  put(a.source + a.first + i, a.from[i]);
  put(a.destination + a.first + i, a.to[i]);
}

inline void launch_prepare(const int64_t* source, const int64_t* destination, int64_t channels,
                           int* device_source, int* device_destination, const FillRstd& norms,
                           void* stream) {
  for (int64_t first = 0; first < channels; first += kTablePart) {
    const int64_t left = channels - first;
    Prepare a = {};
    if (first == 0) a.norms = norms;
    a.first = static_cast<int>(first);
    a.count = static_cast<int>(left < kTablePart ? left : kTablePart);
    a.source = device_source, a.destination = device_destination;
    for (int i = 0; i < a.count; ++i) {
      a.from[i] = static_cast<int>(source[first + i]);
      a.to[i] = static_cast<int>(destination[first + i]);
    }
    const int64_t blocks = ceil_div(a.norms.size, kTablePart);
    launch(&prepare_kernel, grid_of(blocks > 0 ? blocks : 1), kTablePart, 0, stream, a);
  }
}

}  // namespace pcdarts
