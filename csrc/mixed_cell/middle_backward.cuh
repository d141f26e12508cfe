// Backward through the depthwise convolution of a separable convolution's second stage (pass B'):
// to the gradient of its first batch-norm's output, kept where the ReLU between let it through, and
// to that batch-norm's sums.
#pragma once
#include "common/rows.cuh"
#include "mixed_cell/depthwise_backward.cuh"
#include "mixed_cell/stage_input.cuh"

namespace pcdarts {

struct MiddleItem {
  DepthwiseItem depthwise;
  FirstStage first;
  float* grad;           // [B, sampled, H, pitch]
  float* sums;           // [2, sampled, blocks]: S0 and S1
  Pack<float, 4>* norm;  // [sampled]: the first batch-norm's formula
};
constexpr int kMiddleItems = 32;

struct Middle {
  Sizes size;
  Tile tile;
  int64_t span;
  bool need_weights, training;
  int items;
  MiddleItem item[kMiddleItems];
};

static __global__ void __launch_bounds__(kDepthwiseLanes, 5)
    middle_backward_kernel(const __grid_constant__ Middle a) {
  PCDARTS_SHARED(shared);
  const Tile& t = a.tile;
  const Sizes& n = a.size;
  const MiddleItem& item = a.item[blockIdx.z];
  const Convolution conv = convolution_of(item.depthwise);
  const int64_t channel = blockIdx.y;
  const int lane = static_cast<int>(threadIdx.x), floats = t.samples * t.plane;
  float *const r = shared, *const dt = r + floats, *const weights = dt + floats;
  float* const sums = weights + kSumsOfItem;  // [warps, 32]
  float* const mine = sums + lane / 32 * kSumsOfItem;
  sums[lane] = 0;
  const float mean = get(item.first.mean + channel), rstd = get(item.first.rstd + channel);
  float s0 = 0, s1 = 0;
  for (int64_t k = 0; k < a.span; ++k) {
    const int64_t tile = blockIdx.x * a.span + k;
    if (tile >= t.tiles) break;
    const Corner corner = corner_of(t, tile);
    const Quad q = quad_of(t, corner, lane);
    __syncthreads();
    load_gradient_tile(t, corner, n, item.depthwise, channel, dt, weights);
    load_tile(t, corner, 1, r, lane, static_cast<int>(blockDim.x),
              [&](int, int64_t b, int row, int column, float (&v)[kQuad]) {
                get_unit(n, item.first.z, 0, b, channel, row, column, v);
                rectify_quad(mean, rstd, t.width - column, v);
              });
    __syncthreads();
    float grad[1][4] = {}, own[4] = {}, value[4];
    add_input_gradient<1>(t, conv, dt + q.at, weights, grad);
    if (q.count > 0) get_shared(dt + q.at, own);
    if (a.need_weights) add_weight_gradient<1>(t, conv, r + q.at, own, q.count, mine);
    get_shared(r + q.at, value);
    PCDARTS_UNROLLED for (int p = 0; p < kQuad; ++p) {
      if (p >= q.count || !passes_relu(value[p])) grad[0][p] = 0;
      s0 += grad[0][p];
      s1 += grad[0][p] != 0 ? grad[0][p] * value[p] : 0;
    }
    if (q.count == 0) continue;
    const int64_t at = ((q.sample * n.sampled + channel) * n.height + q.row) * map_pitch(n.width);
    put_some(item.grad + at + q.column, kQuad, true, grad[0]);
  }
  __syncthreads();
  if (a.need_weights) {
    put_weight_gradients(n, channel, 1, sums,
                         [&](int) -> const DepthwiseItem& { return item.depthwise; });
  }
  __syncthreads();
  const float both[2] = {warp_sum(s0), warp_sum(s1)};
  if (lane % 32 < 2) sums[lane / 32 * 2 + lane % 32] = lane % 32 == 0 ? both[0] : both[1];
  __syncthreads();
  if (lane >= 2) return;
  float total = 0;
  for (int w = 0; w < static_cast<int>(blockDim.x) / 32; ++w) total += sums[w * 2 + lane];
  put(item.sums + (lane * n.sampled + channel) * gridDim.x + blockIdx.x, total);
}

// The first batch-norms' formulas from the blocks' sums: a warp a channel.
static __global__ void __launch_bounds__(32)
    finish_middle(const __grid_constant__ Middle a, int64_t blocks) {
  const MiddleItem& item = a.item[blockIdx.y];
  const int64_t channel = blockIdx.x;
  const double s0 = sum_row(item.sums + channel * blocks, blocks);
  const double s1 = sum_row(item.sums + (a.size.sampled + channel) * blocks, blocks);
  if (threadIdx.x != 0) return;
  const double count = static_cast<double>(a.size.batch * a.size.height * a.size.width);
  const double mean = static_cast<double>(get(item.first.mean + channel));
  const double rstd = static_cast<double>(get(item.first.rstd + channel));
  put_norm(item.norm + channel, norm_gradient(1, 0, rstd, s0, s1, count, a.training), mean);
}

inline Tile middle_tile(const Sizes& n) {
  return make_tile(n.batch, n.height, n.width, 1, 2, kDepthwiseLanes, 2, kChannelFloats);
}
inline void launch_middle_backward(const Middle& a, void* stream) {
  const size_t lanes = static_cast<size_t>(lanes_of_warps(a.tile));
  const size_t floats = 2 * static_cast<size_t>(tile_floats(a.tile)) + kSumsOfItem + lanes;
  const int64_t blocks = depthwise_blocks(a.tile);
  const unsigned channels = static_cast<unsigned>(a.size.sampled);
  const unsigned items = static_cast<unsigned>(a.items);
  launch(&middle_backward_kernel, dim3(grid_of(blocks), channels, items),
         dim3(static_cast<unsigned>(lanes)), floats * sizeof(float), stream, a);
  launch(&finish_middle, dim3(channels, items), 32, 0, stream, a, blocks);
}

}  // namespace pcdarts
