// A node from all its edges (pass C): every channel is written once, with each z weighed, pools and
// skips computed from the state, bypasses added, at its shuffled place.
#pragma once
#include "common/bypass.cuh"
#include "mixed_cell/edges.cuh"

namespace pcdarts {

constexpr int kNodeThreads = 256;

struct Node {
  Sizes size;
  Tile tile[2];  // of states whose edges have stride 1 and 2
  EdgePlan plan[2];
  int states;
  Channels state[kMaxStates];
  int stride[kMaxStates];
  DeviceEdge edge[kMaxStates];
  const int *source, *destination;
  void* out;              // the node's channel 0 in sample 0
  int64_t out_sample;     // elements
  bool out_packed, wide;  // the output goes in packs of four, the bypass in packs of 16 bytes
};

// What every branch of every edge adds to one channel: weight * (z - mean), as on the CPU.
__device__ __forceinline__ void put_mix_terms(const Node& a, int64_t channel, float* weight,
                                              float* mean) {
  for (int i = static_cast<int>(threadIdx.x); i < a.states * kMaxPrimitives;
       i += static_cast<int>(blockDim.x)) {
    const int j = i / kMaxPrimitives, number = i % kMaxPrimitives;
    const EdgePlan& plan = a.plan[a.stride[j] - 1];
    weight[i] = mean[i] = 0;
    if (number >= plan.branches) continue;
    const Branch& branch = plan.branch[number];
    const DeviceEdge& edge = a.edge[j];
    const float scale = get(edge.beta) * get(edge.alpha + branch.column);
    if (is_plain_skip(branch.primitive.kind, a.stride[j])) {
      weight[i] = scale;
      continue;
    }
    const int64_t norm = last_slot(branch) * a.size.sampled + channel;
    weight[i] = scale * get(edge.rstd + norm);
    mean[i] = get(edge.mean + norm);
  }
}

__device__ __forceinline__ void mix_channel(const Node& a, int64_t channel, float* shared) {
  float* const weight = shared;
  float* const mean = weight + kMaxStates * kMaxPrimitives;
  float* const tile = mean + kMaxStates * kMaxPrimitives;
  const Corner corner = corner_of(a.tile[0], blockIdx.x);
  const int64_t from = get(a.source + channel);
  put_mix_terms(a, channel, weight, mean);
  float sum[kQuad] = {};
  Quad q = {};
  for (int j = 0; j < a.states; ++j) {
    const Tile& t = a.tile[a.stride[j] - 1];
    const EdgePlan& plan = a.plan[a.stride[j] - 1];
    q = quad_of(t, corner, static_cast<int>(threadIdx.x));
    __syncthreads();
    if (has_pools(plan) || a.stride[j] == 1) load_state_tile(t, corner, a.state[j], from, tile);
    __syncthreads();
    if (q.count == 0) continue;
    StateQuad state;
    get_state_quad(t, tile, q, has_pools(plan), state);
    for (int i = 0; i < plan.branches; ++i) {
      const Branch& branch = plan.branch[i];
      const float w = weight[j * kMaxPrimitives + i], m = mean[j * kMaxPrimitives + i];
      float v[kQuad];
      get_branch_quad(a.size, branch, a.stride[j], a.edge[j].z, state, channel, q, v);
      PCDARTS_UNROLLED for (int p = 0; p < kQuad; ++p) sum[p] += w * (v[p] - m);
    }
  }
  if (q.count == 0) return;
  const int64_t row = get(a.destination + channel) * a.size.height + q.row;
  const int64_t at = q.sample * a.out_sample + row * a.size.width + q.column;
  put_stored(a.size.dtype, a.out, at, q.count, a.out_packed, sum);
}

// One bypass channel: sum over the edges of beta * pool(x), in packs of 16 bytes.
template <class S>
__device__ __forceinline__ void mix_bypass(const Node& a, int64_t position) {
  constexpr int N = kWide<S>;
  const int64_t from = get(a.source + position), size = a.size.height * a.size.width;
  const int64_t to = get(a.destination + position) * size;
  const BypassPlane plane = bypass_plane(a.size.height, a.size.width, a.stride[0], N);
  const int64_t total = a.size.batch * plane.packs;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < total;
       i += int64_t{gridDim.x} * blockDim.x) {
    const PackPlace at = pack_place<N>(plane, i);
    float sum[N] = {};
    for (int j = 0; j < a.states; ++j) {
      const float beta = get(a.edge[j].beta);
      const Channels& state = a.state[j];
      const S* x =
          static_cast<const S*>(state.data) + at.sample * state.sample + from * state.channel;
      float v[N];
      get_bypass(x, a.stride[j], plane, at, a.wide, v);
      PCDARTS_UNROLLED for (int k = 0; k < N; ++k) sum[k] += beta * v[k];
    }
    S* const out = static_cast<S*>(a.out) + at.sample * a.out_sample + to;
    put_some(out + at.row * plane.width + at.column, at.count, a.wide, sum);
  }
}

static __global__ void __launch_bounds__(kNodeThreads, 3)
    node_kernel(const __grid_constant__ Node a) {
  PCDARTS_SHARED(shared);
  const int64_t position = blockIdx.y;
  if (position < a.size.sampled) {
    if (blockIdx.x < a.tile[0].tiles) mix_channel(a, position, shared);
  } else {
    with_stored_type(a.size.dtype, [&]<class S>() { mix_bypass<S>(a, position); });
  }
}

inline Tile node_tile(const Sizes& n, int stride) {
  return make_tile(n.batch, n.height, n.width, stride, 1, kNodeThreads, 1, kChannelFloats);
}

inline void launch_node(const Node& a, void* stream) {
  const Tile& t = a.tile[a.stride[0] - 1];
  const size_t floats = 2 * kMaxStates * kMaxPrimitives + static_cast<size_t>(tile_floats(t));
  const BypassPlane plane =
      bypass_plane(a.size.height, a.size.width, a.stride[0], wide_of(a.size.dtype));
  const int64_t bypass =
      a.size.channels == a.size.sampled ? 1 : ceil_div(a.size.batch * plane.packs, kNodeThreads);
  const int64_t blocks = t.tiles > bypass ? t.tiles : bypass;
  launch(&node_kernel, dim3(grid_of(blocks), static_cast<unsigned>(a.size.channels)), kNodeThreads,
         floats * sizeof(float), stream, a);
}

}  // namespace pcdarts
