// The kernel of pass A'; its parts are in state_backward.cuh.
#pragma once
#include "mixed_cell/state_backward.cuh"

namespace pcdarts {

template <int stride>
__device__ __forceinline__ void state_channel(const StateGradient& a, int64_t channel,
                                              float* shared) {
  constexpr int phases = stride * stride;
  const Tile &t = a.tile, u = with_stride(a.tile, 1);
  const Sizes& n = a.size;
  const int lane = static_cast<int>(threadIdx.x), floats = t.samples * t.plane;
  float *const x = shared, *const dt = x + phases * floats;
  float *const average = dt + floats, *const winner = average + floats;
  float* const weights = winner + floats;
  StateTerms& terms = *reinterpret_cast<StateTerms*>(weights + kSumsOfItem);
  float* const sums = weights + kSumsOfItem + sizeof(StateTerms) / sizeof(float);
  float* const mine = sums + lane / 32 * a.items * kSumsOfItem;  // [warps, items, 32]
  const int64_t source = get(a.source + channel), destination = get(a.destination + channel);
  for (int i = lane % 32; i < a.items * kSumsOfItem; i += 32) mine[i] = 0;
  put_state_terms(a, channel, terms);
  for (int64_t k = 0; k < a.span; ++k) {
    const int64_t tile = blockIdx.x * a.span + k;
    if (tile >= t.tiles) break;
    const Corner corner = corner_of(t, tile);
    const Quad q = quad_of(t, corner, lane);
    const int at = quad_of(u, corner, lane).at;
    float dr[phases][4] = {};
    const int64_t carry =
        ((q.sample * n.sampled + channel) * phases * n.height + q.row) * map_pitch(n.width) +
        q.column;
    const int64_t carry_phase = n.height * map_pitch(n.width);
    if (a.carried_in != nullptr && q.count > 0) {
      PCDARTS_UNROLLED for (int phase = 0; phase < phases; ++phase) {
        get_some(a.carried_in + carry + phase * carry_phase, kQuad, true, dr[phase]);
      }
    }
    __syncthreads();
    load_state_tile(t, corner, a.state, source, x);
    for (int i = 0; i < a.items; ++i) {
      const Convolution conv = convolution_of(a.item[i]);
      __syncthreads();
      load_gradient_tile(u, corner, n, a.item[i], channel, dt, weights);
      __syncthreads();
      if (a.grad_x != nullptr) add_input_gradient<stride>(u, conv, dt + at, weights, dr);
      if (!a.need_weights) continue;
      float own[4] = {};
      if (q.count > 0) get_shared(dt + at, own);
      add_weight_gradient<stride>(t, conv, x + q.at, own, q.count, mine + i * kSumsOfItem);
    }
    if (a.carried_out != nullptr) {
      PCDARTS_UNROLLED for (int phase = 0; phase < phases; ++phase) {
        if (q.count > 0) {
          put_some(a.carried_out + carry + phase * carry_phase, kQuad, true, dr[phase]);
        }
      }
      continue;
    }
    if (a.grad_x == nullptr) continue;
    __syncthreads();
    PCDARTS_UNROLLED for (int phase = 0; phase < phases; ++phase) {
      float value[4];
      get_shared(x + q.at + phase * t.plane, value);
      PCDARTS_UNROLLED for (int p = 0; p < kQuad; ++p) {
        if (!passes_relu(value[p])) dr[phase][p] = 0;
      }
    }
    if (stride == 1 && q.count > 0) {
      for (int e = 0; e < a.edges; ++e) {
        if (terms.skip[e] == 0) continue;
        float g[kQuad];
        get_node_quad(n, a.node[e], q.sample, destination, q.row, q.column, q.count, a.packed, g);
        PCDARTS_UNROLLED for (int p = 0; p < kQuad; ++p) dr[0][p] += terms.skip[e] * g[p];
      }
    }
    if (has_pools(a.plan)) {
      pool_windows(a, u, corner, destination, terms, x, dt, average, winner);
      __syncthreads();
      add_pools<stride>(u, at, dt, average, winner, dr);
    }
    if (q.count > 0) put_state_quad<stride>(a, source, q, dr);
  }
  __syncthreads();
  if (a.need_weights) {
    put_weight_gradients(n, channel, a.items, sums,
                         [&](int i) -> const DepthwiseItem& { return a.item[i]; });
  }
}

// One bypass channel: the sum of beta times the node's gradient over the edges.
template <class S, int stride>
__device__ __forceinline__ void bypass_channel(const StateGradient& a, int64_t position) {
  constexpr int N = kWide<S>;
  const Sizes& n = a.size;
  const int64_t from = get(a.destination + position), to = get(a.source + position);
  const BypassPlane plane = bypass_plane(n.height, n.width, stride, N);
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n.batch * plane.packs;
       i += int64_t{gridDim.x} * blockDim.x) {
    const PackPlace at = pack_place<N>(plane, i);
    const int64_t in_plane = at.row * plane.width + at.column, channel = to * a.grad_channel;
    float sum[N] = {};
    if (a.add.data != nullptr) {  // only nodes have something to add, and their edges have stride 1
      get_some(static_cast<const S*>(a.add.data) + at.sample * a.add.sample + channel + in_plane,
               at.count, a.wide, sum);
    }
    for (int e = 0; e < a.edges; ++e) {
      const float beta = get(a.beta[e]);
      float g[N];
      get_some(node_channel<S>(n, a.node[e], at.sample, from) + in_plane, at.count, a.wide, g);
      PCDARTS_UNROLLED for (int j = 0; j < N; ++j) sum[j] += beta * g[j];
    }
    const S* x =
        static_cast<const S*>(a.state.data) + at.sample * a.state.sample + to * a.state.channel;
    put_bypass_gradient(x, stride, plane, at, a.wide, sum,
                        static_cast<S*>(a.grad_x) + at.sample * a.grad_sample + channel);
  }
}

template <int stride>
__global__ void __launch_bounds__(kDepthwiseLanes, 5)
    state_backward_kernel(const __grid_constant__ StateGradient a) {
  PCDARTS_SHARED(shared);
  const int64_t position = blockIdx.y;
  if (position < a.size.sampled) {
    state_channel<stride>(a, position, shared);
  } else {
    with_stored_type(a.size.dtype, [&]<class S>() { bypass_channel<S, stride>(a, position); });
  }
}

// Floats of all planes of a block, own ones and three more: beside the sums of kStateItems there
// are 99 KiB in a block of the smaller GPUs.
constexpr int64_t kStateFloats = 18 * 1024 + 256;
constexpr int64_t kStateTile = 8 * 1024;  // of the own planes, at most

inline Tile state_tile(const Sizes& n, int stride) {
  const int64_t phases = int64_t{stride} * stride, own = kStateFloats * phases / (phases + 3);
  return make_tile(n.batch, n.height, n.width, stride, stride == 1 ? 4 : 2, kDepthwiseLanes, 1,
                   own < kStateTile ? own : kStateTile);
}

inline void launch_state_backward(const StateGradient& a, void* stream) {
  const size_t lanes = static_cast<size_t>(lanes_of_warps(a.tile));
  const size_t plane = static_cast<size_t>(a.tile.samples) * static_cast<size_t>(a.tile.plane);
  const size_t floats = (static_cast<size_t>(a.tile.phases) + 3) * plane + kSumsOfItem +
                        sizeof(StateTerms) / sizeof(float) +
                        lanes / 32 * static_cast<size_t>(a.items) * kSumsOfItem;
  const bool last = a.carried_out == nullptr && a.grad_x != nullptr;
  const int64_t rows = last ? a.size.channels : a.size.sampled;
  const dim3 grid(grid_of(depthwise_blocks(a.tile)), static_cast<unsigned>(rows));
  const dim3 block(static_cast<unsigned>(lanes));
  if (a.stride == 1) {
    launch(&state_backward_kernel<1>, grid, block, floats * sizeof(float), stream, a);
  } else {
    launch(&state_backward_kernel<2>, grid, block, floats * sizeof(float), stream, a);
  }
}

}  // namespace pcdarts
