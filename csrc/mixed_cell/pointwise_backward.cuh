// Backward through batch-norm and pointwise convolutions: from the gradient that reaches a
// batch-norm, dz = a * upstream + b * z + c, to the depthwise output's gradient dt = P^T dz and to
// dP = sum dz t^T. A lane keeps its quad of R channels of dt in registers.
#pragma once
#include "common/outer.cuh"
#include "common/rows.cuh"
#include "mixed_cell/edges.cuh"
#include "mixed_cell/stage.cuh"

namespace pcdarts {

struct PointwiseItem {
  Convolution convolution;
  NodeGrad node;               // what reaches the batch-norm: the node's gradient ...
  const float* middle;         // ... or a map [B, sampled, H, pitch] where this is not null
  const float* z;              // [B, sampled, H, pitch]
  const Pack<float, 4>* norm;  // [sampled]
  float* t;                    // in: depthwise output, where weights learn; out: its gradient
  float* partial;              // [blocks, outputs, sampled]
};
constexpr int kPointwiseItems = 24;

struct Pointwise {
  Sizes size;
  const int* destination;
  bool packed, need_weights;
  int64_t span;  // groups of 64 quads that one block works through
  int items;
  PointwiseItem item[kPointwiseItems];
};

template <int R>
__global__ void __launch_bounds__(kOuterLanes, 1)
    pointwise_backward_kernel(const __grid_constant__ Pointwise a) {
  PCDARTS_SHARED(shared);
  using Shape = OuterShape<R>;
  const PointwiseItem& item = a.item[blockIdx.z];
  const Convolution& conv = item.convolution;
  const Sizes& n = a.size;
  const int lane = static_cast<int>(threadIdx.x);
  const int first = static_cast<int>(blockIdx.y) * R;  // channel of t
  const int outputs = conv.outputs, padded = (outputs + R - 1) / R * R;
  float* const weights = shared;                // [padded, R]
  float* const left = weights + padded * R;     // dz
  float* const right = left + R * kOuterPitch;  // t
  float* const sums = right + R * kOuterPitch;  // [splits, padded, R]
  const int sums_size = Shape::splits * padded * R;
  for (int i = lane; i < padded * R; i += kOuterLanes) {
    const int o = i / R, c = first + i % R;
    const bool exists = o < outputs && c < n.sampled;
    weights[i] = exists ? get(conv.pointwise + int64_t{o} * n.sampled + c) : 0;
  }
  for (int i = lane; a.need_weights && i < sums_size; i += kOuterLanes) sums[i] = 0;
  __syncthreads();

  const int64_t across = ceil_div(n.width, kQuad), quads = n.batch * n.height * across;
  const int64_t pitch = map_pitch(n.width);
  for (int64_t k = 0; k < a.span; ++k) {
    const int64_t i = (blockIdx.x * a.span + k) * kOuterLanes + lane;
    const bool exists = i < quads;
    const int64_t above = exists ? i / across : 0, column = exists ? i % across * kQuad : 0;
    const int64_t sample = above / n.height, row = above % n.height;
    const int64_t own = n.width - column;
    const int count = exists ? static_cast<int>(own < kQuad ? own : kQuad) : 0;
    const int64_t at = (sample * n.sampled * n.height + row) * pitch + column;
    const int64_t channel = n.height * pitch;  // floats between two channels
    for (int c = 0; a.need_weights && c < R; ++c) {
      float v[4] = {};
      if (count > 0 && first + c < n.sampled) {
        get_some(item.t + at + (first + c) * channel, kQuad, true, v);
      }
      put_shared(right + c * kOuterPitch + 4 * lane, v);
    }
    float dt[R][4] = {};
    for (int begin = 0; begin < outputs; begin += R) {
      for (int r = 0; r < R; ++r) {
        const int o = begin + r;
        float dz[4] = {};
        if (count > 0 && o < outputs) {
          const int64_t to = conv.first + o;
          float upstream[4], z[4];
          if (item.middle != nullptr) {
            get_some(item.middle + at + to * channel, kQuad, true, upstream);
          } else {
            get_node_quad(n, item.node, sample, get(a.destination + to), row, column, count,
                          a.packed, upstream);
          }
          get_some(item.z + at + to * channel, kQuad, true, z);
          const Pack<float, 4> norm = get(item.norm + to);
          PCDARTS_UNROLLED for (int p = 0; p < kQuad; ++p) {
            if (p < count) dz[p] = through_norm(norm, upstream[p], z[p]);
          }
          PCDARTS_UNROLLED for (int c = 0; c < R; c += 4) {
            float w[4];
            get_shared(weights + o * R + c, w);
            PCDARTS_UNROLLED for (int j = 0; j < 4; ++j) {
              PCDARTS_UNROLLED for (int p = 0; p < 4; ++p) dt[c + j][p] += w[j] * dz[p];
            }
          }
        }
        if (a.need_weights) put_shared(left + r * kOuterPitch + 4 * lane, dz);
      }
      if (!a.need_weights) continue;
      __syncthreads();
      add_outer<R>(left, right, lane, sums + begin * R, R, padded * R);
      __syncthreads();
    }
    PCDARTS_UNROLLED for (int c = 0; c < R; ++c) {
      if (count > 0 && first + c < n.sampled) {
        put_some(item.t + at + (first + c) * channel, kQuad, true, dt[c]);
      }
    }
  }
  if (!a.need_weights) return;
  float* const to = item.partial + int64_t{blockIdx.x} * outputs * n.sampled;
  for (int i = lane; i < outputs * R; i += kOuterLanes) {
    const int o = i / R, c = first + i % R;
    if (c >= n.sampled) continue;
    float sum = 0;
    for (int s = 0; s < Shape::splits; ++s) sum += sums[s * padded * R + i];
    put(to + int64_t{o} * n.sampled + c, sum);
  }
}

constexpr int64_t kPointwiseBlocks = 256;  // at most, an item
inline int64_t pointwise_span(const Sizes& n) {
  const int64_t groups = ceil_div(n.batch * n.height * ceil_div(n.width, kQuad), kOuterLanes);
  return ceil_div(groups, kPointwiseBlocks);
}
inline int64_t pointwise_blocks(const Sizes& n) {
  const int64_t groups = ceil_div(n.batch * n.height * ceil_div(n.width, kQuad), kOuterLanes);
  return ceil_div(groups, pointwise_span(n));
}

inline void launch_pointwise_backward(const Pointwise& a, void* stream) {
  with_outputs(a.size.sampled, [&]<int R>() {
    const int64_t padded = ceil_div(a.size.sampled, R) * R;
    int64_t floats = padded * R;
    if (a.need_weights) floats += 2 * R * kOuterPitch + OuterShape<R>::splits * padded * R;
    launch(&pointwise_backward_kernel<R>,
           dim3(grid_of(pointwise_blocks(a.size)),
                static_cast<unsigned>(ceil_div(a.size.sampled, R)), static_cast<unsigned>(a.items)),
           kOuterLanes, static_cast<size_t>(floats) * sizeof(float), stream, a);
  });
}

}  // namespace pcdarts
