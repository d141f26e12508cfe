// How the kernels of relu_conv_bn see the pixels: quads of four columns of one row of one sample,
// one a lane; and how a lane reads the input and the gradient of z there.
#pragma once
#include "common/rows.cuh"
#include "relu_conv_bn/math.h"

namespace pcdarts {

constexpr int kConvThreads = 128;
constexpr int kConvChannels = 16;  // that a lane keeps in registers
constexpr int kConvChunk = 64;     // channels whose weights lie in shared memory

struct ConvProblem {
  DType dtype;
  int64_t batch, in, out, height, width, even_outputs;
  int stride;
  bool linear, packed;  // all rows may be read in packs of four
  const float* weights[2];
  const void *x, *out_data, *grad_out;
  const Pack<float, 4>* norm;  // [out]; null: dz is the gradient itself
};

struct ConvQuad {
  int64_t sample, row, column;
  int count;
};
__device__ __forceinline__ ConvQuad conv_quad(const ConvProblem& p, int64_t number) {
  const int64_t across = ceil_div(p.width, 4), above = number / across;
  const int64_t column = number % across * 4, left = p.width - column;
  const bool exists = above < p.batch * p.height;
  return {exists ? above / p.height : 0, exists ? above % p.height : 0, column,
          exists ? static_cast<int>(left < 4 ? left : 4) : 0};
}
inline int64_t conv_quads(const ReluConvBn& p) { return p.batch * p.height * ceil_div(p.width, 4); }

// Which outputs a half has: all of them at stride 1.
struct ConvHalf {
  int64_t first, outputs;
};
PCDARTS_HD ConvHalf conv_half(const ConvProblem& p, int half) {
  return half == 0 ? ConvHalf{0, p.even_outputs} : ConvHalf{p.even_outputs, p.out - p.even_outputs};
}

// Rows of the input that the half reads, `stride` times as wide: where the quad starts in one.
__device__ __forceinline__ int64_t input_at(const ConvProblem& p, const ConvQuad& q, int half,
                                            int64_t channel) {
  const int64_t size = p.height * p.width * p.stride * p.stride;
  return (q.sample * p.in + channel) * size + (p.stride * q.row + half) * p.stride * p.width +
         p.stride * q.column;
}

// The input at the pixels of a quad that `half` reads, before the ReLU.
__device__ __forceinline__ void get_input(const ConvProblem& p, const ConvQuad& q, int half,
                                          int64_t channel, float (&v)[4]) {
  const int64_t at = input_at(p, q, half, channel);
  if (p.stride == 1) {
    get_stored(p.dtype, p.x, at, q.count, p.packed, v);
    return;
  }
  float low[4], high[4];
  get_stored(p.dtype, p.x, at, 2 * q.count, p.packed, low);
  get_stored(p.dtype, p.x, at + 4, 2 * q.count - 4, p.packed, high);
  PCDARTS_UNROLLED for (int i = 0; i < 2; ++i) {
    v[i] = half == 0 ? low[2 * i] : low[2 * i + 1];
    v[2 + i] = half == 0 ? high[2 * i] : high[2 * i + 1];
  }
}

// dz of one output channel; pixels that do not exist have 0.
__device__ __forceinline__ void get_dz(const ConvProblem& p, const ConvQuad& q, int64_t channel,
                                       float (&dz)[4]) {
  const int64_t at = ((q.sample * p.out + channel) * p.height + q.row) * p.width + q.column;
  get_stored(p.dtype, p.grad_out, at, q.count, p.packed, dz);
  if (p.norm == nullptr) return;
  float out[4];
  get_stored(p.dtype, p.out_data, at, q.count, p.packed, out);
  const Pack<float, 4> norm = get(p.norm + channel);
  PCDARTS_UNROLLED for (int i = 0; i < 4; ++i) {
    const float v = through_norm(norm, dz[i], out[i]);
    dz[i] = i < q.count ? v : 0;
  }
}

// relu, but of a linear problem the value itself.
__device__ __forceinline__ float rectified(const ConvProblem& p, float v) {
  return !p.linear && v < 0 ? 0 : v;
}

// sum[o][p] += weight[o] * v[p]
__device__ __forceinline__ void add_products(const float* weights, const float (&v)[4],
                                             float (&sum)[kConvChannels][4]) {
  PCDARTS_UNROLLED for (int o = 0; o < kConvChannels; o += 4) {
    float w[4];
    get_shared(weights + o, w);
    PCDARTS_UNROLLED for (int i = 0; i < 4; ++i) {
      PCDARTS_UNROLLED for (int p = 0; p < 4; ++p) sum[o + i][p] += w[i] * v[p];
    }
  }
}

}  // namespace pcdarts
