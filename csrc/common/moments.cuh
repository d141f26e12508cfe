// Batch statistics in two stages: every warp leaves the moments of its part of a channel, then one
// block a few channels merges them in a fixed order.
#pragma once
#include "common/batch_norm.h"
#include "common/memory.cuh"
#include "common/warp.cuh"

namespace pcdarts {

// Mean and sum of squared deviations of `count` values, as a warp leaves them.
struct WarpMoments {
  float count, mean, square;
};

// The moments of OB channels over a warp: values[o][p] of four pixels, the first `count` of which
// exist. Channel o of `channels` goes to `to` + o.
template <int OB>
__device__ __forceinline__ void put_warp_moments(const float (&values)[OB][4], int count,
                                                 int channels, WarpMoments* to) {
  const int lane = static_cast<int>(threadIdx.x % 32), mine = sum_of_lane<OB>(lane);
  const float pixels = warp_sum(static_cast<float>(count));
  const float share = pixels > 0 ? 1 / pixels : 0;
  float sums[OB];
  PCDARTS_UNROLLED for (int o = 0; o < OB; ++o) {
    sums[o] = 0;
    PCDARTS_UNROLLED for (int p = 0; p < 4; ++p) sums[o] += p < count ? values[o][p] : 0;
  }
  const float mean = warp_sums(sums) * share;
  PCDARTS_UNROLLED for (int o = 0; o < OB; ++o) {
    const float m = __shfl_sync(kAllLanes, mean, lane_of_sum<OB>(o));
    sums[o] = 0;
    PCDARTS_UNROLLED for (int p = 0; p < 4; ++p) {
      const float d = p < count ? values[o][p] - m : 0;
      sums[o] += d * d;
    }
  }
  const float square = warp_sums(sums);
  if (lane == lane_of_sum<OB>(mine) && mine < channels) {
    put(&to[mine].count, pixels), put(&to[mine].mean, mean), put(&to[mine].square, square);
  }
}

constexpr int kMostMerged = 16;  // slots of one edge at a time: one a primitive
constexpr int kMostEdges = 16;

struct MergeMoments {
  const WarpMoments* partial;  // [warps, slots, channels]
  int64_t warps, slots, channels;
  double eps;
  float *mean, *variance, *rstd;  // [all slots, channels]
  int edges, count;               // merged slots of every edge
  int64_t to[kMostEdges];         // first slot of every edge in the results
  int per_edge;                   // slots of an edge in `partial`
  int slot[kMostMerged];          // of an edge's slots, those that are merged ...
  int shared[kMostMerged];        // ... from this slot of `partial`, the edge's own where negative
};

constexpr int kMergeChannels = 16, kMergeLanes = 16;

static __global__ void __launch_bounds__(kMergeChannels* kMergeLanes)
    merge_moments(const __grid_constant__ MergeMoments a) {
  PCDARTS_SHARED(shared);
  double* const sums = reinterpret_cast<double*>(shared);  // [2][lanes][channels]
  const int x = static_cast<int>(threadIdx.x), y = static_cast<int>(threadIdx.y);
  const int64_t pair = int64_t{blockIdx.x} * kMergeChannels + x;
  const bool exists = pair < int64_t{a.edges} * a.count * a.channels;
  const int64_t channel = pair % a.channels;
  const int which = static_cast<int>(pair / a.channels % a.count);
  const int edge = exists ? static_cast<int>(pair / a.channels / a.count) : 0;
  const int from = a.shared[which] < 0 ? edge * a.per_edge + a.slot[which] : a.shared[which];
  const WarpMoments* const p = a.partial + from * a.channels + channel;
  const int64_t apart = a.slots * a.channels;
  const auto total = [&](double value, int k) {
    sums[(k * kMergeLanes + y) * kMergeChannels + x] = value;
    __syncthreads();
    double all = 0;
    for (int i = 0; i < kMergeLanes; ++i) all += sums[(k * kMergeLanes + i) * kMergeChannels + x];
    __syncthreads();
    return all;
  };
  double count = 0, sum = 0, square = 0;
  for (int64_t w = y; exists && w < a.warps; w += kMergeLanes) {
    const WarpMoments m = get(p + w * apart);
    count += m.count, sum += static_cast<double>(m.count) * m.mean;
  }
  count = total(count, 0);
  const double mean = total(sum, 1) / count;
  for (int64_t w = y; exists && w < a.warps; w += kMergeLanes) {
    const WarpMoments m = get(p + w * apart);
    const double d = m.mean - mean;
    square += m.square + d * d * m.count;
  }
  square = total(square, 0);
  if (!exists || y != 0) return;
  const int64_t to = (a.to[edge] + a.slot[which]) * a.channels + channel;
  const float variance = static_cast<float>(square / count);
  put(a.mean + to, static_cast<float>(mean));
  put(a.variance + to, variance);
  put(a.rstd + to, static_cast<float>(norm_rstd(static_cast<double>(variance), a.eps)));
}

inline void launch_merge(const MergeMoments& a, void* stream) {
  const int64_t pairs = int64_t{a.edges} * a.count * a.channels;
  if (pairs == 0) return;
  launch(&merge_moments, grid_of(ceil_div(pairs, kMergeChannels)),
         dim3(kMergeChannels, kMergeLanes), 2 * kMergeLanes * kMergeChannels * sizeof(double),
         stream, a);
}

struct FillRstd {
  const float* variance;
  float* rstd;
  int64_t size;
  double eps;
};
__device__ __forceinline__ void fill_rstd(const FillRstd& a, int64_t i) {
  if (i >= a.size) return;
  const double variance = static_cast<double>(get(a.variance + i));
  put(a.rstd + i, static_cast<float>(norm_rstd(variance, a.eps)));
}

}  // namespace pcdarts
