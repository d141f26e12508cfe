// Depthwise convolution of planes, its input gradient and its weight gradient, by tiles of up to 8
// rows of 8 columns that stay in registers while every row is loaded once for all its taps.
#pragma once
#include "common/strips.h"
#include "mixed_cell/math.h"

namespace pcdarts::PCDARTS_ISA {
namespace {

// Double serves the gradient checks: one row at a time keeps its code small.
template <class T>
constexpr int kTileRows = sizeof(T) == 4 ? 8 : 1;

// out[rows][8], `row` elements apart, (+)= sum over the taps of w[ky][kx] * in; `flip` takes the
// taps in reverse order, for the input gradient. Not inlined: inlined into the loops over tiles the
// compiler spills and the code outgrows the micro-operation cache (2.2x slower, Zen 2).
template <class T, int KY, int KX, int D, bool flip, int rows>
PCDARTS_NOINLINE void tile(const T* __restrict in, const T* __restrict w, T* __restrict out,
                           int64_t row, bool accumulate) {
  Vec<T> sum[rows];
  if (accumulate) {
    PCDARTS_UNROLL for (int i = 0; i < rows; ++i) sum[i] = load8(out + i * row);
  } else {
    PCDARTS_UNROLL for (int i = 0; i < rows; ++i) sum[i] = Vec<T>{};
  }
  PCDARTS_UNROLL for (int kx = 0; kx < KX; ++kx) {
    Vec<T> tap[KY];
    PCDARTS_UNROLL for (int ky = 0; ky < KY; ++ky) {
      const int at = ky * KX + kx;
      tap[ky] = splat(w[flip ? KY * KX - 1 - at : at]);
    }
    constexpr int reach = D * (KY - 1) + 1, most = rows + D * (KY - 1);
    PCDARTS_UNROLL for (int first = 0; first < reach; ++first) {
      PCDARTS_UNROLL for (int y = first; y < most; y += reach) {
        const Vec<T> v = load8(in + y * kRow + kx * D);
        PCDARTS_UNROLL for (int ky = 0; ky < KY; ++ky) {
          if (y - ky * D >= 0 && y - ky * D < rows) sum[y - ky * D] += tap[ky] * v;
        }
      }
    }
  }
  PCDARTS_UNROLL for (int i = 0; i < rows; ++i) store8(out + i * row, sum[i]);
}

// dw[ky][kx] += sum over the tile of grad * in, lane by lane. grad is in a plane.
template <class T, int KY, int KX, int D, int rows>
PCDARTS_NOINLINE void weight_tile(const T* __restrict in, const T* __restrict grad,
                                  Vec<T>* __restrict dw) {
  Vec<T> g[rows];
  PCDARTS_UNROLL for (int i = 0; i < rows; ++i) g[i] = load8(grad + i * kRow);
  PCDARTS_UNROLL for (int kx = 0; kx < KX; ++kx) {
    Vec<T> sum[KY];
    PCDARTS_UNROLL for (int ky = 0; ky < KY; ++ky) sum[ky] = dw[ky * KX + kx];
    PCDARTS_UNROLL for (int y = 0; y < rows + D * (KY - 1); ++y) {
      const Vec<T> v = load8(in + y * kRow + kx * D);
      PCDARTS_UNROLL for (int ky = 0; ky < KY; ++ky) {
        if (y - ky * D >= 0 && y - ky * D < rows) sum[ky] += g[y - ky * D] * v;
      }
    }
    PCDARTS_UNROLL for (int ky = 0; ky < KY; ++ky) dw[ky * KX + kx] = sum[ky];
  }
}

// Covers rows 0..height with f.template operator()<rows>(first row).
template <class T, class F>
PCDARTS_INLINE void for_tiles(int height, F f) {
  int y = 0;
  if constexpr (kTileRows<T> == 8) {
    for (; y + 8 <= height; y += 8) f.template operator()<8>(y);
    if (y + 4 <= height) f.template operator()<4>(y), y += 4;
    if (y + 2 <= height) f.template operator()<2>(y), y += 2;
  }
  for (; y < height; ++y) f.template operator()<1>(y);
}

// Calls f.template operator()<KY, KX, D>() for the block's compile-time shape.
template <class F>
PCDARTS_INLINE void with_shape(const TapBlock& b, F f) {
  switch (b.rows * 100 + b.columns * 10 + b.dilation) {
    case 331:
      return f.template operator()<3, 3, 1>();
    case 332:
      return f.template operator()<3, 3, 2>();
    case 551:
      return f.template operator()<5, 5, 1>();
    case 552:
      return f.template operator()<5, 5, 2>();
    case 111:
      return f.template operator()<1, 1, 1>();
    case 121:
      return f.template operator()<1, 2, 1>();
    case 211:
      return f.template operator()<2, 1, 1>();
    case 221:
      return f.template operator()<2, 2, 1>();
    case 231:
      return f.template operator()<2, 3, 1>();
    default:
      return f.template operator()<3, 2, 1>();
  }
}

// One block of taps over one plane, into a map.
template <bool flip, class T>
PCDARTS_INLINE void convolve_block(const auto& g, const TapBlock& b, const T* plane, const T* w,
                                   T* map, bool accumulate) {
  T gathered[25];
  const T* taps = w;
  if (b.step != 1) {
    for (int ky = 0; ky < b.rows; ++ky) {
      for (int kx = 0; kx < b.columns; ++kx) {
        gathered[ky * b.columns + kx] = w[weight_index(b, ky, kx)];
      }
    }
    taps = gathered;
  }
  const int oy = flip ? -b.offset_y - b.dilation * (b.rows - 1) : b.offset_y;
  const int ox = flip ? -b.offset_x - b.dilation * (b.columns - 1) : b.offset_x;
  with_shape(b, [&]<int KY, int KX, int D>() {
    for (int s = 0; s < g.strips; ++s) {
      for_tiles<T>(g.height, [&]<int rows>(int y) {
        tile<T, KY, KX, D, flip, rows>(in_plane(g, plane, s, y + oy) + ox, taps,
                                       in_map(g, map, s, y), g.row, accumulate);
      });
    }
  });
  clear_tail(g, map);
}

// map = w * planes, over all phases of one channel (one plane at stride 1, four at stride 2).
template <class T>
PCDARTS_INLINE void depthwise(const auto& g, const Taps& taps, const T* planes, const T* w,
                              T* map) {
  for (int i = 0; i < taps.blocks; ++i) {
    const TapBlock& b = taps.block[i];
    convolve_block<false>(g, b, planes + b.phase * g.plane, w, map, i > 0);
  }
}

// maps[phase] (+)= the gradient of the input phases, from a plane of the output's gradient.
template <class T>
PCDARTS_INLINE void depthwise_input_gradient(const auto& g, const Taps& taps, const T* grad,
                                             const T* w, T* maps, bool accumulate) {
  for (int i = 0; i < taps.blocks; ++i) {
    const TapBlock& b = taps.block[i];
    convolve_block<true>(g, b, grad, w, maps + b.phase * g.map, accumulate);
  }
}

// dw[weight] += the weight gradient, lane by lane; the blocks lie one behind the other.
template <class T>
PCDARTS_INLINE void depthwise_weight_gradient(const auto& g, const Taps& taps, const T* planes,
                                              const T* grad, Vec<T>* dw) {
  for (int i = 0; i < taps.blocks; ++i) {
    const TapBlock& b = taps.block[i];
    const T* in = planes + b.phase * g.plane;
    with_shape(b, [&]<int KY, int KX, int D>() {
      for (int s = 0; s < g.strips; ++s) {
        for_tiles<T>(g.height, [&]<int rows>(int y) {
          weight_tile<T, KY, KX, D, rows>(in_plane(g, in, s, y + b.offset_y) + b.offset_x,
                                          in_plane(g, grad, s, y), dw);
        });
      }
    });
    dw += b.rows * b.columns;
  }
}

}  // namespace
}  // namespace pcdarts::PCDARTS_ISA
