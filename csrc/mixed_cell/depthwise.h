// Depthwise convolution of planes, its input gradient and its weight gradient, by tiles of up to 8
// rows of 8 lanes that stay in registers while every row is loaded once for all its taps. Rows
// beyond the image are zero, and the tiles of a small map leave them out; those of a stack leave
// out columns too.
#pragma once
#include "common/strips.h"
#include "mixed_cell/math.h"

namespace pcdarts::PCDARTS_ISA {
namespace {

// Double serves the gradient checks: one row at a time keeps its code small.
template <class T>
constexpr int kTileRows = sizeof(T) == 4 ? 8 : 1;

// A tile's sums are split by the taps' columns into sets, since an addition waits for the one
// before it: 16 of them keep the multipliers busy.
template <class T, int rows>
#ifdef __AVX2__
constexpr int kSets = sizeof(T) == 4 ? 16 / rows : 1;
#else
constexpr int kSets = 1;
#endif

// How many of the rows that a tile of KY taps reads lie above its own, and how many below.
template <int KY, int D, bool flip>
constexpr int kAbove = D * (flip ? (KY - 1) / 2 : KY / 2);
template <int KY, int D, bool flip>
constexpr int kBelow = D * (KY - 1) - kAbove<KY, D, flip>;

// The columns of a stack that a tile's strip reads: `first` of `count` at the first tap.
struct Columns {
  int first, count;
};
// Whether a tap `offset` columns further reads beyond the stack; planes of strips have zeros there.
template <class Layout>
PCDARTS_INLINE bool beyond(const Columns& columns, int offset) {
  const int at = columns.first + offset;
  return kWhole<Layout> && (at < 0 || at >= columns.count);
}

// out[rows][8], `row` elements apart, (+)= sum over the taps of w[ky][kx] * in; `flip` takes the
// taps in reverse order, for the input gradient; the first `above` and the last `below` rows of
// `in` are beyond the image. Not inlined: inlined into the loops over tiles the compiler spills and
// the code outgrows the micro-operation cache (2.2x slower, Zen 2).
template <class Layout, class T, int KY, int KX, int D, bool flip, int rows, int above, int below>
PCDARTS_NOINLINE void tile(const T* __restrict in, Columns columns, const T* __restrict w,
                           T* __restrict out, int64_t row, bool accumulate) {
  constexpr int sets = kSets<T, rows> < KX ? kSets<T, rows> : KX;
  Vec<T> sum[sets][rows];
  PCDARTS_UNROLL for (int set = 0; set < sets; ++set) clear(sum[set]);
  if (accumulate) {
    PCDARTS_UNROLL for (int i = 0; i < rows; ++i) sum[0][i] = load8(out + i * row);
  }
  PCDARTS_UNROLL for (int kx = 0; kx < KX; ++kx) {
    if (beyond<Layout>(columns, kx * D)) continue;
    Vec<T> tap[KY];
    PCDARTS_UNROLL for (int ky = 0; ky < KY; ++ky) {
      const int at = ky * KX + kx;
      tap[ky] = splat(w[flip ? KY * KX - 1 - at : at]);
    }
    constexpr int reach = D * (KY - 1) + 1, most = rows + D * (KY - 1);
    PCDARTS_UNROLL for (int first = 0; first < reach; ++first) {
      PCDARTS_UNROLL for (int y = first; y < most; y += reach) {
        if (y < above || y >= most - below) continue;
        const Vec<T> v = load8(in + y * Layout::row + kx * D * Layout::column);
        PCDARTS_UNROLL for (int ky = 0; ky < KY; ++ky) {
          const int i = y - ky * D;
          if (i >= 0 && i < rows) sum[kx % sets][i] += tap[ky] * v;
        }
      }
    }
  }
  PCDARTS_UNROLL for (int i = 0; i < rows; ++i) {
    PCDARTS_UNROLL for (int set = 1; set < sets; ++set) sum[0][i] += sum[set][i];
    store8(out + i * row, sum[0][i]);
  }
}

// dw[ky][kx] += sum over the tile of grad * in, lane by lane. grad is in a plane. Lanes that are
// not `valid` have no gradient, but the taps may read pixels of the image there, NaN and infinity
// too.
template <class Layout, class T, int KY, int KX, int D, int rows, int above, int below>
PCDARTS_NOINLINE void weight_tile(const T* __restrict in, Columns columns, const T* __restrict grad,
                                  Mask<T> valid, Vec<T>* __restrict dw) {
  Vec<T> g[rows];
  PCDARTS_UNROLL for (int i = 0; i < rows; ++i) g[i] = load8(grad + i * Layout::row);
  PCDARTS_UNROLL for (int kx = 0; kx < KX; ++kx) {
    if (beyond<Layout>(columns, kx * D)) continue;
    Vec<T> sum[KY];
    PCDARTS_UNROLL for (int ky = 0; ky < KY; ++ky) sum[ky] = dw[ky * KX + kx];
    PCDARTS_UNROLL for (int y = above; y < rows + D * (KY - 1) - below; ++y) {
      const Vec<T> loaded = load8(in + y * Layout::row + kx * D * Layout::column);
      const Vec<T> v = kWhole<Layout> ? loaded : keep<T>(valid, loaded);
      PCDARTS_UNROLL for (int ky = 0; ky < KY; ++ky) {
        if (y - ky * D >= 0 && y - ky * D < rows) sum[ky] += g[y - ky * D] * v;
      }
    }
    PCDARTS_UNROLL for (int ky = 0; ky < KY; ++ky) dw[ky * KX + kx] = sum[ky];
  }
}

// The highest map whose tiles leave rows out: four tiles high, that is three kinds of code to save
// a twentieth of the products, and slower (2-core EPYC, AVX-512).
constexpr int kEdgeHeight = 16;

// Covers rows 0..height with f.template operator()<rows, above, below>(first row), where the tile
// reads `over` rows above its own and `under` below them.
template <class Layout, class T, int over, int under, class F>
PCDARTS_INLINE void for_tiles(int height, F f) {
  int y = 0;
  if constexpr (kTileRows<T> == 8 && !kWhole<Layout>) {  // stacks are lower
    for (; y + 8 <= height; y += 8) {
      const bool small = height <= kEdgeHeight, upper = small && y == 0,
                 lower = small && y + 8 == height;
      if (upper && lower) {
        f.template operator()<8, over, under>(y);
      } else if (upper) {
        f.template operator()<8, over, 0>(y);
      } else if (lower) {
        f.template operator()<8, 0, under>(y);
      } else {
        f.template operator()<8, 0, 0>(y);
      }
    }
  }
  if constexpr (kTileRows<T> == 8) {
    // the usual small maps in one tile, without the rows beyond them
    if (height == 7) return f.template operator()<7, over, under>(0);
    if (height == 4) return f.template operator()<4, over, under>(0);
    if (height == 2) return f.template operator()<2, over, under>(0);
    if (height == 1) return f.template operator()<1, over, under>(0);
    if (y + 4 <= height) f.template operator()<4, 0, 0>(y), y += 4;
    if (y + 2 <= height) f.template operator()<2, 0, 0>(y), y += 2;
  }
  for (; y < height; ++y) f.template operator()<1, 0, 0>(y);
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
template <bool flip, class G, class T>
PCDARTS_INLINE void convolve_block(const G& g, const TapBlock& b, const T* plane, const T* w,
                                   T* map, bool accumulate) {
  T gathered[kMostTaps];
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
    using Layout = typename G::Layout;
    for (int s = 0; s < g.strips; ++s) {
      constexpr int over = kAbove<KY, D, flip>, under = kBelow<KY, D, flip>;
      for_tiles<Layout, T, over, under>(g.height, [&]<int rows, int above, int below>(int y) {
        tile<Layout, T, KY, KX, D, flip, rows, above, below>(
            in_plane(g, plane, s, y + oy) + ox * Layout::column, {s + ox, g.strips}, taps,
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
template <class G, class T>
PCDARTS_INLINE void depthwise_weight_gradient(const G& g, const Taps& taps, const T* planes,
                                              const T* grad, Vec<T>* dw) {
  for (int i = 0; i < taps.blocks; ++i) {
    const TapBlock& b = taps.block[i];
    const T* in = planes + b.phase * g.plane;
    with_shape(b, [&]<int KY, int KX, int D>() {
      for (int s = 0; s < g.strips; ++s) {
        using Layout = typename G::Layout;
        const Mask<T> valid = first_lanes<T>(lanes_of(g, s));
        constexpr int over = kAbove<KY, D, false>, under = kBelow<KY, D, false>;
        for_tiles<Layout, T, over, under>(g.height, [&]<int rows, int above, int below>(int y) {
          weight_tile<Layout, T, KY, KX, D, rows, above, below>(
              in_plane(g, in, s, y + b.offset_y) + b.offset_x * Layout::column,
              {s + b.offset_x, g.strips}, in_plane(g, grad, s, y), valid, dw);
        });
      }
    });
    dw += b.rows * b.columns;
  }
}

}  // namespace
}  // namespace pcdarts::PCDARTS_ISA
