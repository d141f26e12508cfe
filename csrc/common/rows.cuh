// The second stage of plain sums: rows of partial sums, one from every warp of the first stage, are
// added up in a fixed order.
#pragma once
#include "common/batch_norm.h"
#include "common/memory.cuh"
#include "common/warp.cuh"

namespace pcdarts {

// The sum of a row by a warp, in every lane.
__device__ __forceinline__ double sum_row(const float* row, int64_t length) {
  double sum = 0;
  for (int64_t i = threadIdx.x % 32; i < length; i += 32) {
    sum += static_cast<double>(get(row + i));
  }
  return warp_sum(sum);
}

// A batch-norm's gradient as the kernels read it: dz = upstream * gradient + own * (z - mean) +
// constant. The mean is taken off first, so that float32 keeps the digits of a small variance; n is
// of z - mean too, whose mean is 0.
__device__ __forceinline__ void put_norm(Pack<float, 4>* to, const NormGradient& n, double mean) {
  put(to, Pack<float, 4>{{static_cast<float>(n.upstream), static_cast<float>(n.own),
                          static_cast<float>(n.constant), static_cast<float>(mean)}});
}
// own is 0 in eval mode, and times infinity that would be NaN.
__device__ __forceinline__ float of_own(float own, float deviation) {
  return own == 0 ? 0 : own * deviation;
}
__device__ __forceinline__ float through_norm(const Pack<float, 4>& norm, float gradient, float z) {
  return norm.value[0] * gradient + of_own(norm.value[1], z - norm.value[3]) + norm.value[2];
}

}  // namespace pcdarts
