// The sums of batch-norm's gradient, then dx = W^T dz through the ReLU, and dW = sum dz relu(x)^T.
#pragma once
#include "common/bypass.cuh"
#include "common/outer.cuh"
#include "common/relu.cuh"
#include "common/rows.cuh"
#include "relu_conv_bn/pixels.cuh"

namespace pcdarts {

constexpr int kConvSumThreads = 256;

// Rows [2, out] of warps' sums of the gradient, and of gradient times output.
struct ConvSums {
  const void *grad, *out;
  BypassPlane plane;
  int64_t batch, channels, warps;
  bool wide;
  float* partial;
};
template <class S>
__global__ void __launch_bounds__(kConvSumThreads)
    conv_sums_kernel(const __grid_constant__ ConvSums a) {
  constexpr int N = kWide<S>;
  const int64_t i = int64_t{blockIdx.x} * kConvSumThreads + threadIdx.x, channel = blockIdx.y;
  float s0 = 0, s1 = 0;
  if (i < a.batch * a.plane.packs) {
    const PackPlace at = pack_place<N>(a.plane, i);
    const int64_t from = (at.sample * a.channels + channel) * a.plane.width + at.column;
    float g[N], out[N];
    get_some(static_cast<const S*>(a.grad) + from, at.count, a.wide, g);
    get_some(static_cast<const S*>(a.out) + from, at.count, a.wide, out);
    PCDARTS_UNROLLED for (int k = 0; k < N; ++k) s0 += g[k], s1 += g[k] * out[k];
  }
  s0 = warp_sum(s0), s1 = warp_sum(s1);
  if (threadIdx.x % 32 != 0) return;
  put(a.partial + channel * a.warps + i / 32, s0);
  put(a.partial + (a.channels + channel) * a.warps + i / 32, s1);
}

// The output stands for a z of mean 0 and rstd 1; the true rstd is multiplied in at the end. A
// block of two warps a channel, one for each sum.
struct ConvNorm {
  const float* partial;  // as in ConvSums; not read in eval mode, whose formula has no sums
  int64_t warps;
  const float* variance;
  int64_t channels;
  double count, eps;
  bool training;
  Pack<float, 4>* norm;
};
static __global__ void __launch_bounds__(64) conv_norm(const __grid_constant__ ConvNorm a) {
  PCDARTS_SHARED(shared);
  double* const sums = reinterpret_cast<double*>(shared);
  const int64_t o = blockIdx.x, warp = threadIdx.x / 32;
  const float* const row = a.partial + (warp * a.channels + o) * a.warps;
  const double sum = a.training ? sum_row(row, a.warps) : 0;
  if (threadIdx.x % 32 == 0) sums[warp] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  const double rstd = norm_rstd(static_cast<double>(get(a.variance + o)), a.eps);
  put_norm(a.norm + o, norm_gradient(rstd, 0, 1, sums[0], sums[1], a.count, a.training), 0);
}

// Writes stride * count columns of a row of the input's gradient: v at the half's pixels, else 0.
__device__ __forceinline__ void put_input_gradient(const ConvProblem& p, const ConvQuad& q,
                                                   int half, void* to, int64_t at,
                                                   const float (&v)[4]) {
  if (p.stride == 1) {
    put_stored(p.dtype, to, at, q.count, p.packed, v);
    return;
  }
  PCDARTS_UNROLLED for (int k = 0; k < 2; ++k) {
    float row[4];
    PCDARTS_UNROLLED for (int i = 0; i < 4; ++i) row[i] = i % 2 == half ? v[2 * k + i / 2] : 0;
    put_stored(p.dtype, to, at + 4 * k, 2 * q.count - 4 * k, p.packed, row);
  }
}

static __global__ void __launch_bounds__(kConvThreads, 3)
    conv_input_kernel(const __grid_constant__ ConvProblem p, void* grad_x) {
  PCDARTS_SHARED(weights);  // [chunk, channels]
  const int lane = static_cast<int>(threadIdx.x), half = static_cast<int>(blockIdx.z);
  const ConvHalf h = conv_half(p, half);
  const int64_t begin = int64_t{blockIdx.y} * kConvChannels;
  const ConvQuad q = conv_quad(p, int64_t{blockIdx.x} * kConvThreads + lane);
  float dx[kConvChannels][4] = {};
  for (int64_t first = 0; first < h.outputs; first += kConvChunk) {
    const int64_t count = h.outputs - first < kConvChunk ? h.outputs - first : kConvChunk;
    __syncthreads();
    for (int i = lane; i < count * kConvChannels; i += kConvThreads) {
      const int64_t c = begin + i % kConvChannels, o = first + i / kConvChannels;
      weights[i] = c < p.in ? get(p.weights[half] + o * p.in + c) : 0;
    }
    __syncthreads();
    for (int64_t o = 0; q.count > 0 && o < count; ++o) {
      float dz[4];
      get_dz(p, q, h.first + first + o, dz);
      add_products(weights + o * kConvChannels, dz, dx);
    }
  }
  PCDARTS_UNROLLED for (int c = 0; c < kConvChannels; ++c) {
    if (q.count == 0 || begin + c >= p.in) continue;
    float x[4];
    if (!p.linear) {
      get_input(p, q, half, begin + c, x);
      PCDARTS_UNROLLED for (int i = 0; i < 4; ++i) dx[c][i] = passes_relu(x[i]) ? dx[c][i] : 0;
    }
    put_input_gradient(p, q, half, grad_x, input_at(p, q, half, begin + c), dx[c]);
  }
}

// One 16 x 16 block of dW of one half, over a span of pixels: partial [blocks, outputs, in].
static __global__ void __launch_bounds__(kOuterLanes, 1)
    conv_weight_kernel(const __grid_constant__ ConvProblem p, int64_t span, float* even,
                       float* odd) {
  constexpr int R = kConvChannels, splits = OuterShape<R>::splits;
  PCDARTS_SHARED(shared);
  float *const left = shared, *const right = left + R * kOuterPitch;
  float* const sums = right + R * kOuterPitch;
  const int lane = static_cast<int>(threadIdx.x), half = static_cast<int>(blockIdx.z);
  const ConvHalf h = conv_half(p, half);
  const int64_t across = ceil_div(p.in, R);
  const int64_t o = blockIdx.y / across * R, c = blockIdx.y % across * R;
  if (o >= h.outputs) return;
  for (int i = lane; i < splits * R * R; i += kOuterLanes) sums[i] = 0;
  for (int64_t k = 0; k < span; ++k) {
    const ConvQuad q = conv_quad(p, (blockIdx.x * span + k) * kOuterLanes + lane);
    __syncthreads();
    for (int r = 0; r < R; ++r) {
      float dz[4] = {}, v[4] = {};
      if (q.count > 0 && o + r < h.outputs) get_dz(p, q, h.first + o + r, dz);
      if (q.count > 0 && c + r < p.in) get_input(p, q, half, c + r, v);
      PCDARTS_UNROLLED for (int i = 0; i < 4; ++i) v[i] = i < q.count ? rectified(p, v[i]) : 0;
      put_shared(left + r * kOuterPitch + 4 * lane, dz);
      put_shared(right + r * kOuterPitch + 4 * lane, v);
    }
    __syncthreads();
    add_outer<R>(left, right, lane, sums, R, R * R);
  }
  __syncthreads();
  float* const to = (half == 0 ? even : odd) + int64_t{blockIdx.x} * h.outputs * p.in;
  for (int i = lane; i < R * R; i += kOuterLanes) {
    if (o + i / R >= h.outputs || c + i % R >= p.in) continue;
    float sum = 0;
    for (int s = 0; s < splits; ++s) sum += sums[s * R * R + i];
    put(to + (o + i / R) * p.in + c + i % R, sum);
  }
}

}  // namespace pcdarts
