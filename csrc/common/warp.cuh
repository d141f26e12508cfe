// Sums over the 32 lanes of a warp, in one fixed order.
#pragma once
#include "common/cuda.cuh"

namespace pcdarts {

constexpr unsigned kAllLanes = 0xffffffffu;

template <class T>
__device__ __forceinline__ T warp_sum(T value) {
  PCDARTS_UNROLLED for (int with = 16; with > 0; with /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, with);
  }
  return value;
}

template <int N>
constexpr int kLog2 = 1 + kLog2<N / 2>;
template <>
constexpr int kLog2<1> = 0;

// The lane that warp_sums<N> leaves the sum of v[i] in (and its followers, 32 / N in all).
template <int N>
__device__ __forceinline__ int lane_of_sum(int i) {
  return i << (5 - kLog2<N>);
}
template <int N>
__device__ __forceinline__ int sum_of_lane(int lane) {
  return lane >> (5 - kLog2<N>);
}

// N sums at once, N a power of two up to 32: lane l returns the sum of v[sum_of_lane<N>(l)]. Lanes
// exchange halves, so that 32 sums cost 31 shuffles and not 160. Destroys v.
template <int N>
__device__ __forceinline__ float warp_sums(float (&v)[N]) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  PCDARTS_UNROLLED for (int step = 0; step < 5; ++step) {
    const int with = 16 >> step, half = N >> (step + 1);
    if (half == 0) {
      v[0] += __shfl_xor_sync(kAllLanes, v[0], with);
      continue;
    }
    const bool upper = (lane & with) != 0;
    PCDARTS_UNROLLED for (int i = 0; i < N / 2; ++i) {
      if (i >= half) continue;
      const float mine = upper ? v[i + half] : v[i], other = upper ? v[i] : v[i + half];
      v[i] = mine + __shfl_xor_sync(kAllLanes, other, with);
    }
  }
  return v[0];
}

}  // namespace pcdarts
