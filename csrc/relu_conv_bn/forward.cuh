// z to the output with its moments, then the output normalised in place.
#pragma once
#include "common/bypass.cuh"
#include "common/moments.cuh"
#include "relu_conv_bn/pixels.cuh"

namespace pcdarts {

static __global__ void __launch_bounds__(kConvThreads, 3)
    conv_forward_kernel(const __grid_constant__ ConvProblem p, void* out, WarpMoments* partial) {
  PCDARTS_SHARED(weights);  // [chunk, channels]
  const int lane = static_cast<int>(threadIdx.x), half = static_cast<int>(blockIdx.z);
  const ConvHalf h = conv_half(p, half);
  const int64_t begin = int64_t{blockIdx.y} * kConvChannels;
  if (begin >= h.outputs) return;
  const int64_t number = int64_t{blockIdx.x} * kConvThreads + lane;
  const ConvQuad q = conv_quad(p, number);
  float z[kConvChannels][4] = {};
  for (int64_t first = 0; first < p.in; first += kConvChunk) {
    const int64_t count = p.in - first < kConvChunk ? p.in - first : kConvChunk;
    __syncthreads();
    for (int i = lane; i < count * kConvChannels; i += kConvThreads) {
      const int64_t o = begin + i % kConvChannels, c = first + i / kConvChannels;
      weights[i] = o < h.outputs ? get(p.weights[half] + o * p.in + c) : 0;
    }
    __syncthreads();
    for (int64_t c = 0; q.count > 0 && c < count; ++c) {
      float v[4];
      get_input(p, q, half, first + c, v);
      PCDARTS_UNROLLED for (int i = 0; i < 4; ++i) v[i] = rectified(p, v[i]);
      add_products(weights + c * kConvChannels, v, z);
    }
  }
  const int64_t left = h.outputs - begin;
  PCDARTS_UNROLLED for (int o = 0; o < kConvChannels; ++o) {
    if (q.count == 0 || o >= left) continue;
    const int64_t plane = q.sample * p.out + h.first + begin + o;
    const int64_t at = (plane * p.height + q.row) * p.width + q.column;
    put_stored(p.dtype, out, at, q.count, p.packed, z[o]);
  }
  if (partial == nullptr) return;
  const int channels = static_cast<int>(left < kConvChannels ? left : kConvChannels);
  put_warp_moments<kConvChannels>(z, q.count, channels,
                                  partial + number / 32 * p.out + h.first + begin);
}

constexpr int kNormaliseThreads = 256;

static __global__ void __launch_bounds__(kNormaliseThreads)
    conv_rstd(const __grid_constant__ FillRstd a) {
  fill_rstd(a, int64_t{blockIdx.x} * kNormaliseThreads + threadIdx.x);
}

struct Normalise {
  void* out;
  BypassPlane plane;
  int64_t planes, channels;
  bool wide;
  const float *mean, *rstd;
};
template <class S>
__global__ void __launch_bounds__(kNormaliseThreads)
    normalise_kernel(const __grid_constant__ Normalise a) {
  constexpr int N = kWide<S>;
  const int64_t i = int64_t{blockIdx.x} * kNormaliseThreads + threadIdx.x;
  if (i >= a.planes * a.plane.packs) return;
  const PackPlace at = pack_place<N>(a.plane, i);
  const float mean = get(a.mean + at.sample % a.channels);
  const float rstd = get(a.rstd + at.sample % a.channels);
  S* const p = static_cast<S*>(a.out) + at.sample * a.plane.width + at.column;
  float v[N];
  get_some(p, at.count, a.wide, v);
  PCDARTS_UNROLLED for (int k = 0; k < N; ++k) v[k] = (v[k] - mean) * rstd;
  put_some(p, at.count, a.wide, v);
}

}  // namespace pcdarts
