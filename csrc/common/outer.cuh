// Sums over pixels of the outer product of two sets of channels: a pointwise convolution's weight
// gradient. Both sets lie in shared memory, R rows of the pixels of 64 lanes.
#pragma once
#include "common/memory.cuh"

namespace pcdarts {

constexpr int kOuterLanes = 64;
constexpr int kOuterPitch = 4 * kOuterLanes + 4;  // four more: no two lanes meet in a bank

// Lanes form a square of (R / side)^2, each with a block of side x side products; the lanes that
// remain split the pixels.
template <int R>
struct OuterShape {
  static constexpr int side = R <= 8 ? 2 : 4;
  static constexpr int across = R / side;
  static constexpr int splits = kOuterLanes / (across * across);
};

// to[split][R][R] += left[o] . right[c], over the pixels; rows of `to` are `pitch` apart, splits
// `apart`.
template <int R>
__device__ __forceinline__ void add_outer(const float* left, const float* right, int lane,
                                          float* to, int pitch, int apart) {
  using Shape = OuterShape<R>;
  constexpr int side = Shape::side;
  const int pair = lane % (Shape::across * Shape::across);
  const int split = lane / (Shape::across * Shape::across);
  const int o = pair / Shape::across * side, c = pair % Shape::across * side;
  float sum[side][side] = {};
  for (int i = split; i < kOuterLanes; i += Shape::splits) {
    float a[side][4], b[side][4];
    PCDARTS_UNROLLED for (int k = 0; k < side; ++k) {
      get_shared(left + (o + k) * kOuterPitch + 4 * i, a[k]);
      get_shared(right + (c + k) * kOuterPitch + 4 * i, b[k]);
    }
    PCDARTS_UNROLLED for (int k = 0; k < side; ++k) {
      PCDARTS_UNROLLED for (int l = 0; l < side; ++l) {
        PCDARTS_UNROLLED for (int p = 0; p < 4; ++p) sum[k][l] += a[k][p] * b[l][p];
      }
    }
  }
  PCDARTS_UNROLLED for (int k = 0; k < side; ++k) {
    PCDARTS_UNROLLED for (int l = 0; l < side; ++l) {
      to[split * apart + (o + k) * pitch + c + l] += sum[k][l];
    }
  }
}

// Partial gradients [count, size] of one weight tensor, summed in order.
struct MergedWeight {
  const float* partial;
  float* to;
  int size, count;
};
constexpr int kMergedWeights = 170;  // arguments of a kernel have 4 KiB
struct MergeWeights {
  int items;
  MergedWeight item[kMergedWeights];
};
constexpr int kMergeWeightThreads = 256;
static __global__ void __launch_bounds__(kMergeWeightThreads)
    merge_weights(const __grid_constant__ MergeWeights a) {
  const MergedWeight& item = a.item[blockIdx.y];
  for (int64_t i = int64_t{blockIdx.x} * kMergeWeightThreads + threadIdx.x; i < item.size;
       i += int64_t{gridDim.x} * kMergeWeightThreads) {
    float sum = 0;
    for (int64_t k = 0; k < item.count; ++k) sum += get(item.partial + k * item.size + i);
    put(item.to + i, sum);
  }
}
inline void launch_merge_weights(const std::vector<MergedWeight>& weights, void* stream) {
  MergeWeights a = {};
  for (size_t first = 0; first < weights.size();) {
    first = take_items(weights, first, a);
    int largest = 1;
    for (int i = 0; i < a.items; ++i) {
      largest = largest > a.item[i].size ? largest : a.item[i].size;
    }
    const dim3 grid(grid_of(ceil_div(largest, kMergeWeightThreads)),
                    static_cast<unsigned>(a.items));
    launch(&merge_weights, grid, kMergeWeightThreads, 0, stream, a);
  }
}

}  // namespace pcdarts
