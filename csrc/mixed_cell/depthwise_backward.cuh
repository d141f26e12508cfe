// Backward through one depthwise convolution of a quad: to its input and to its weights.
#pragma once
#include "common/warp.cuh"
#include "mixed_cell/edges.cuh"

namespace pcdarts {

constexpr int kDepthwiseLanes = 128;
constexpr int kDepthwiseBlocks = 128;  // at most, along the tiles: blocks work through several
constexpr int kSumsOfItem = 32;        // floats for the weight gradient of one item and warp

struct DepthwiseItem {
  const float* weights;  // [sampled, kernel, kernel]
  const float* dt;       // [B, sampled, H, pitch]
  float* partial;        // [blocks, sampled, kernel, kernel]
  signed char kernel, dilation, phase;
};
inline DepthwiseItem depthwise_item(const Convolution& c, const float* dt, float* partial) {
  return {.weights = c.depthwise,
          .dt = dt,
          .partial = partial,
          .kernel = static_cast<signed char>(c.kernel),
          .dilation = static_cast<signed char>(c.dilation),
          .phase = static_cast<signed char>(c.phase)};
}
__device__ __forceinline__ Convolution convolution_of(const DepthwiseItem& item) {
  return {.kernel = item.kernel,
          .dilation = item.dilation,
          .phase = item.phase,
          .depthwise = item.weights};
}

// The tile of dt around the quads of a tile `t` of the input, and the item's weights, by all
// threads of the block.
__device__ __forceinline__ void load_gradient_tile(const Tile& t, const Corner& corner,
                                                   const Sizes& n, const DepthwiseItem& item,
                                                   int64_t channel, float* dt, float* weights) {
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  load_tile(t, corner, 1, dt, thread, threads,
            [&](int, int64_t b, int row, int column, float (&v)[kQuad]) {
              get_unit(n, item.dt, 0, b, channel, row, column, v);
            });
  const int taps = item.kernel * item.kernel;
  for (int i = thread; item.kernel > 1 && i < taps; i += threads) {
    weights[i] = get(item.weights + channel * taps + i);
  }
}

// dr[phase] += the transposed convolution of dt, which is laid out as the tile `t` of stride 1.
template <int stride>
__device__ __forceinline__ void add_input_gradient(const Tile& t, const Convolution& c,
                                                   const float* dt, const float* weights,
                                                   float (&dr)[stride * stride][4]) {
  if (c.kernel == 1) {
    float own[4];
    get_shared(dt, own);
    PCDARTS_UNROLLED for (int phase = 0; phase < stride * stride; ++phase) {
      PCDARTS_UNROLLED for (int p = 0; p < 4; ++p) dr[phase][p] += phase == c.phase ? own[p] : 0;
    }
    return;
  }
  if (!meets_phases(c, stride)) {
    with_taps(c, stride, [&]<int K, int D>() {
      for_taps<K, D, true>(t, dt, [&](int ky, int kx, const float (&v)[4]) {
        const float w = weights[ky * K + kx];
        PCDARTS_UNROLLED for (int p = 0; p < 4; ++p) dr[0][p] += w * v[p];
      });
    });
    return;
  }
  if constexpr (stride == 2) {
    const auto add = [&]<int K>() {
      PCDARTS_UNROLLED for (int ky = 0; ky < K; ++ky) {
        PCDARTS_UNROLLED for (int kx = 0; kx < K; ++kx) {
          const int y = ky - K / 2, x = kx - K / 2;
          const float* from = dt - (y >> 1) * t.pitch - (x >> 1);
          const float w = weights[ky * K + kx];
          PCDARTS_UNROLLED for (int p = 0; p < 4; ++p) dr[2 * (y & 1) + (x & 1)][p] += w * from[p];
        }
      }
    };
    if (c.kernel == 3) return add.template operator()<3>();
    add.template operator()<5>();
  }
}

// to[tap] += the warp's share of the weight gradient; x is the quad's place in the input's tile,
// and the first `count` of its pixels exist: beside the others the taps may find NaN and infinity.
template <int stride>
__device__ __forceinline__ void add_weight_gradient(const Tile& t, const Convolution& c,
                                                    const float* x, const float (&own)[4],
                                                    int count, float* to) {
  const auto sum = [&]<int K>(auto for_each_tap) {
    constexpr int N = K == 3 ? 16 : 32;
    float sums[N] = {};
    for_each_tap([&](int ky, int kx, const float (&v)[4]) {
      PCDARTS_UNROLLED for (int p = 0; p < 4; ++p) {
        if (p < count) sums[ky * K + kx] += own[p] * v[p];
      }
    });
    const float mine = warp_sums(sums);
    const int lane = static_cast<int>(threadIdx.x % 32), tap = sum_of_lane<N>(lane);
    if (lane == lane_of_sum<N>(tap)) to[tap] += mine;
  };
  if (c.kernel == 1) return;
  if (!meets_phases(c, stride)) {
    with_taps(c, stride, [&]<int K, int D>() {
      sum.template operator()<K>([&](auto f) { for_taps<K, D, false>(t, x, f); });
    });
  } else if (c.kernel == 3) {
    sum.template operator()<3>([&](auto f) { for_phase_taps<3>(t, x, f); });
  } else {
    sum.template operator()<5>([&](auto f) { for_phase_taps<5>(t, x, f); });
  }
}

// The warps' sums of `items` items, in order, to this block's partial gradients.
template <class ItemOf>
__device__ __forceinline__ void put_weight_gradients(const Sizes& n, int64_t channel, int items,
                                                     const float* sums, ItemOf item_of) {
  const int warps = static_cast<int>(blockDim.x) / 32;
  for (int i = static_cast<int>(threadIdx.x); i < items * kSumsOfItem;
       i += static_cast<int>(blockDim.x)) {
    const DepthwiseItem& item = item_of(i / kSumsOfItem);
    const int taps = item.kernel * item.kernel, tap = i % kSumsOfItem;
    if (item.kernel == 1 || tap >= taps) continue;
    float sum = 0;
    for (int w = 0; w < warps; ++w) sum += sums[w * items * kSumsOfItem + i];
    put(item.partial + (blockIdx.x * n.sampled + channel) * taps + tap, sum);
  }
}

inline int64_t depthwise_span(const Tile& t) { return ceil_div(t.tiles, kDepthwiseBlocks); }
inline int64_t depthwise_blocks(const Tile& t) { return ceil_div(t.tiles, depthwise_span(t)); }

}  // namespace pcdarts
