// What the gradients of batch-norm, alpha and beta need of a state (pass C'), from its tile in
// shared memory and from the convolutions' outputs in registers: S0 of every edge, S1 of every
// branch, not yet times rstd. Every warp leaves partial sums.
#pragma once
#include "mixed_cell/stage.cuh"

namespace pcdarts {

__device__ __forceinline__ float dot(const float (&a)[kQuad], const float (&b)[kQuad], float mean,
                                     int count) {
  float sum = 0;
  PCDARTS_UNROLLED for (int p = 0; p < kQuad; ++p) sum += p < count ? a[p] * (b[p] - mean) : 0;
  return sum;
}
__device__ __forceinline__ void get_gradient(const Stage& a, int edge, int channel, const Quad& q,
                                             float (&g)[kQuad]) {
  get_node_quad(a.size, a.node[edge], q.sample, get(a.destination + channel), q.row, q.column,
                q.count, a.packed, g);
}
__device__ __forceinline__ void put_sum(const Stage& a, int row, int channel, int64_t warp,
                                        float sum) {
  put(a.sums + (int64_t{row} * a.state.channels + channel) * a.warps + warp, sum);
}

// S1 of OB output channels of a convolution from `out` on, `left` of which exist.
template <int OB>
__device__ __forceinline__ void put_output_sums(const Stage& a, const StageItem& item,
                                                const Quad& q, const float (&z)[OB][4], int out,
                                                int left, int64_t warp) {
  const int lane = static_cast<int>(threadIdx.x % 32), mine = sum_of_lane<OB>(lane);
  const int channel = item.convolution.first + out;
  float sums[OB];
  PCDARTS_UNROLLED for (int o = 0; o < OB; ++o) {
    sums[o] = 0;
    if (o >= left || q.count == 0) continue;
    float g[4], v[4] = {z[o][0], z[o][1], z[o][2], z[o][3]};
    get_gradient(a, item.edge, channel + o, q, g);
    if (item.known != nullptr) {
      get_unit(a.size, item.known, 0, q.sample, channel + o, q.row, q.column, v);
    }
    sums[o] = dot(g, v, get(item.mean + channel + o), q.count);
  }
  const float sum = warp_sums(sums);
  if (lane == lane_of_sum<OB>(mine) && mine < left) put_sum(a, item.row, channel + mine, warp, sum);
}

// S0, and S1 of pools and skips, of the channels [first, first + count) in the tile.
__device__ __forceinline__ void put_state_sums(const Stage& a, const Quad& q, int first, int count,
                                               const float* tile, int64_t warp) {
  const int channel_floats = a.tile.samples * a.tile.phases * a.tile.plane;
  for (int c = static_cast<int>(threadIdx.y); c < count; c += static_cast<int>(blockDim.y)) {
    StateQuad state;
    get_state_quad(a.tile, tile + c * channel_floats, q, has_pools(a.plan), state);
    const auto put_warp_sum = [&](int row, float sum) {
      sum = warp_sum(sum);
      if (threadIdx.x % 32 == 0) put_sum(a, row, first + c, warp, sum);
    };
    for (int e = 0; e < a.edges; ++e) {
      float g[kQuad] = {};
      if (q.count > 0) get_gradient(a, e, first + c, q, g);
      const int row = e * (1 + a.plan.branches);
      put_warp_sum(row, g[0] + g[1] + g[2] + g[3]);
      for (int i = 0; i < a.plan.branches; ++i) {
        const Branch& branch = a.plan.branch[i];
        if (units_of(branch.primitive.kind, a.tile.stride)) continue;
        const bool plain = is_plain_skip(branch.primitive.kind, a.tile.stride);
        const int64_t norm = last_slot(branch) * a.state.channels + first + c;
        float v[kQuad];
        get_branch_quad(a.size, branch, a.tile.stride, nullptr, state, first + c, q, v);
        put_warp_sum(row + 1 + i, dot(g, v, plain ? 0 : get(a.mean[e] + norm), q.count));
      }
    }
  }
}

}  // namespace pcdarts
