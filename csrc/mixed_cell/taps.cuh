// Depthwise convolution of one quad from a tile in shared memory, its transpose and its weight
// gradient. Tap k of a kernel reads the input `dilation * (k - kernel / 2)` rows or columns away
// from stride times the output's place (tile_offset).
#pragma once
#include "common/relu.cuh"
#include "common/tile.cuh"

namespace pcdarts {

// A convolution of an edge: depthwise [channels, kernel, kernel], then pointwise [outputs,
// channels]. Kernel 1 has no depthwise weights and reads one phase: half of a stride-2 skip.
struct Convolution {
  int kernel, dilation = 1, phase = 0;
  int outputs = 0, first = 0;  // it gives the output channels [first, first + outputs)
  const float *depthwise = nullptr, *pointwise = nullptr;
};

// Calls f.template operator()<kernel, dilation>(), dilation as it appears on the phases.
template <class F>
__device__ __forceinline__ void with_taps(const Convolution& c, int stride, F f) {
  if (c.kernel == 3) {
    if (c.dilation == 1 || stride == 2) return f.template operator()<3, 1>();
    return f.template operator()<3, 2>();
  }
  if (c.dilation == 1 || stride == 2) return f.template operator()<5, 1>();
  return f.template operator()<5, 2>();
}

// Columns [-reach, 4 + reach) of a row around a quad at p, as v[0..): v[k + p] is tap k of pixel p
// where reach is 1 or 2, v[2 k + p] where it is 4 (dilation 2, kernel 5) or 2 (kernel 3).
template <int reach, bool rectify>
__device__ __forceinline__ void get_window(const float* p, float (&v)[4 + 2 * reach]) {
  float own[4];
  get_shared(p, own);
  PCDARTS_UNROLLED for (int i = 0; i < 4; ++i) v[reach + i] = own[i];
  if constexpr (reach == 4) {
    float left[4], right[4];
    get_shared(p - 4, left), get_shared(p + 4, right);
    PCDARTS_UNROLLED for (int i = 0; i < 4; ++i) v[i] = left[i], v[8 + i] = right[i];
  } else {
    PCDARTS_UNROLLED for (int i = 0; i < reach; ++i) {
      v[i] = p[i - reach], v[4 + reach + i] = p[4 + i];
    }
  }
  if constexpr (rectify) {
    PCDARTS_UNROLLED for (int i = 0; i < 4 + 2 * reach; ++i) v[i] = relu(v[i]);
  }
}

// f(ky, kx, v): v[p] is what tap (ky, kx) of pixel p of the quad at `at` reads, after the ReLU.
// With `transposed` it is what the tap writes to in the transposed convolution, stride 1 only.
template <int K, int D, bool transposed, class F>
__device__ __forceinline__ void for_taps(const Tile& t, const float* at, F f) {
  constexpr int reach = D * (K / 2);
  PCDARTS_UNROLLED for (int ky = 0; ky < K; ++ky) {
    float row[4 + 2 * reach];
    const int away = (transposed ? -1 : 1) * (D * ky - reach);
    get_window<reach, !transposed>(at + away * t.pitch, row);
    PCDARTS_UNROLLED for (int kx = 0; kx < K; ++kx) {
      const int first = transposed ? 2 * reach - D * kx : D * kx;
      const float v[4] = {row[first], row[first + 1], row[first + 2], row[first + 3]};
      f(ky, kx, v);
    }
  }
}

// The same forward taps at stride 2 and dilation 1, whose input is in four phases.
template <int K, class F>
__device__ __forceinline__ void for_phase_taps(const Tile& t, const float* at, F f) {
  PCDARTS_UNROLLED for (int ky = 0; ky < K; ++ky) {
    PCDARTS_UNROLLED for (int kx = 0; kx < K; ++kx) {
      const float* from = at + tile_offset(t, ky - K / 2, kx - K / 2);
      const float v[4] = {relu(from[0]), relu(from[1]), relu(from[2]), relu(from[3])};
      f(ky, kx, v);
    }
  }
}

// Whether a convolution's taps meet more than one phase.
__device__ __forceinline__ bool meets_phases(const Convolution& c, int stride) {
  return stride == 2 && c.dilation == 1;
}

// out = the depthwise output of a quad; weights [kernel, kernel] in shared memory.
__device__ __forceinline__ void depthwise_quad(const Tile& t, const Convolution& c, const float* at,
                                               const float* weights, float (&out)[4]) {
  PCDARTS_UNROLLED for (int p = 0; p < 4; ++p) out[p] = 0;
  if (c.kernel == 1) {
    get_shared(at + c.phase * t.plane, out);
    PCDARTS_UNROLLED for (int p = 0; p < 4; ++p) out[p] = relu(out[p]);
    return;
  }
  const int kernel = c.kernel;
  const auto add = [&](int ky, int kx, const float (&v)[4]) {
    const float w = weights[ky * kernel + kx];
    PCDARTS_UNROLLED for (int p = 0; p < 4; ++p) out[p] += w * v[p];
  };
  if (!meets_phases(c, t.stride)) {
    with_taps(c, t.stride, [&]<int K, int D>() { for_taps<K, D, false>(t, at, add); });
  } else if (kernel == 3) {
    for_phase_taps<3>(t, at, add);
  } else {
    for_phase_taps<5>(t, at, add);
  }
}

// 3x3 pool of one pixel, padding 1: PyTorch's maximum (the first one wins, a NaN beats all) and
// where it lies, 0..8; the average counts what lies inside the image.
struct Pooled {
  float largest, average;
  int winner;
};
__device__ __forceinline__ Pooled pool_pixel(const Tile& t, const float* at, int row, int column) {
  const int rows = t.stride * t.height, columns = t.stride * t.width;
  Pooled pooled = {-INFINITY, 0, -1};
  int count = 0;
  PCDARTS_UNROLLED for (int ky = 0; ky < 3; ++ky) {
    PCDARTS_UNROLLED for (int kx = 0; kx < 3; ++kx) {
      const int y = t.stride * row + ky - 1, x = t.stride * column + kx - 1;
      if (y < 0 || y >= rows || x < 0 || x >= columns) continue;
      const float v = at[tile_offset(t, ky - 1, kx - 1)];
      if (pooled.winner < 0 || v > pooled.largest || v != v) {
        pooled.largest = v, pooled.winner = 3 * ky + kx;
      }
      pooled.average += v, ++count;
    }
  }
  pooled.average /= static_cast<float>(count);
  return pooled;
}

// 1 / how many pixels of a pool's window lie inside the image.
__device__ __forceinline__ float pool_share(const Tile& t, int row, int column) {
  const auto inside = [](int at, int stride, int size) {
    return 3 - (at == 0) - (stride * at + 1 >= stride * size);
  };
  return 1.f /
         static_cast<float>(inside(row, t.stride, t.height) * inside(column, t.stride, t.width));
}

}  // namespace pcdarts
