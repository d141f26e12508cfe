// The second stage of plain sums: rows of partial sums, one a warp, are added up in a fixed order.
#pragma once
#include "common/batch_norm.h"
#include "common/memory.cuh"
#include "common/warp.cuh"

namespace pcdarts {

// Every row of partial sums to one double.
struct MergeRows {
  const float* partial;
  int64_t rows, length;
  double* sums;
};
constexpr int kRowThreads = 128;
static __global__ void __launch_bounds__(kRowThreads)
    merge_rows(const __grid_constant__ MergeRows a, const __grid_constant__ MergeRows b) {
  PCDARTS_SHARED(shared);
  double* const warps = reinterpret_cast<double*>(shared);
  const int64_t block = blockIdx.x;
  const MergeRows& m = block < a.rows ? a : b;
  const int64_t row = block < a.rows ? block : block - a.rows;
  double sum = 0;
  for (int64_t i = threadIdx.x; i < m.length; i += kRowThreads) {
    sum += static_cast<double>(get(m.partial + row * m.length + i));
  }
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) put(m.sums + row, warps[0] + warps[1] + warps[2] + warps[3]);
}

inline void launch_merge_rows(const MergeRows& a, const MergeRows& b, void* stream) {
  if (a.rows + b.rows == 0) return;
  launch(&merge_rows, grid_of(a.rows + b.rows), kRowThreads, 4 * sizeof(double), stream, a, b);
}

// A batch-norm's gradient as the kernels read it: dz = upstream * gradient + own * (z - mean) +
// constant. The mean is taken off first, so that float32 keeps the digits of a small variance.
__device__ __forceinline__ void put_norm(Pack<float, 4>* to, const NormGradient& n, double mean) {
  put(to,
      Pack<float, 4>{{static_cast<float>(n.upstream), static_cast<float>(n.own),
                      static_cast<float>(n.constant + n.own * mean), static_cast<float>(mean)}});
}
__device__ __forceinline__ float through_norm(const Pack<float, 4>& norm, float gradient, float z) {
  return norm.value[0] * gradient + norm.value[1] * (z - norm.value[3]) + norm.value[2];
}

}  // namespace pcdarts
