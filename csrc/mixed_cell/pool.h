// 3x3 maximum and average pools (padding 1, the border not counted) of one channel at once. Both
// are separable: first along the row, then over three rows; backward routes the same way back.
#pragma once
#include "common/chunks.h"
#include "common/strips.h"

namespace pcdarts::PCDARTS_ISA {
namespace {

// Working memory for one channel.
template <class T>
struct PoolScratch {
  T* raw;           // [phases] maps
  T *left, *right;  // [stride] maps, [1] map: gradients on their way to a neighbouring column
};
template <class T>
PCDARTS_INLINE PoolScratch<T> take_pool(Pieces& pieces, const auto& g, int stride) {
  PoolScratch<T> pool = {};
  pool.raw = take<T>(pieces, int64_t{stride} * stride * g.map);
  pool.left = take<T>(pieces, int64_t{stride} * g.map);
  pool.right = take<T>(pieces, g.map);
  return pool;
}

// What a pool's maps hold outside the image.
template <class T>
constexpr T kLowest = -__builtin_huge_val();

// Strip s of a map; whether it is the first or last one is known to the compiler, so that others do
// not pay for what only these need.
template <bool is_first, bool is_last>
struct Strip {
  static constexpr bool first = is_first, last = is_last;
  int s;
};
struct AnyStrip {
  bool first, last;
  int s;
};
template <class F>
PCDARTS_INLINE void for_strips(const auto& g, F f) {
  if (g.strips == 1) return f(Strip<true, true>{0});
  f(Strip<true, false>{0});
  for (int s = 1; s + 1 < g.strips; ++s) f(Strip<false, false>{s});
  f(Strip<false, true>{g.strips - 1});
}

// The vector at `p` moved by a column: every lane holds its left (right) neighbour, `border` beyond
// the map.
template <class Layout, class T>
PCDARTS_INLINE Vec<T> left_of(auto strip, const T* p, T border) {
  if (!strip.first) return load8(p - Layout::column);
  if constexpr (kWhole<Layout>) return splat(border);
  return __builtin_shufflevector(splat(border), load8(p), 7, 8, 9, 10, 11, 12, 13, 14);
}
template <class Layout, class T>
PCDARTS_INLINE Vec<T> right_of(auto strip, const T* p, T border) {
  if (!strip.last) return load8(p + Layout::column);
  if constexpr (kWhole<Layout>) return splat(border);
  return __builtin_shufflevector(load8(p), splat(border), 1, 2, 3, 4, 5, 6, 7, 8);
}

// Left, middle and right neighbour of every output column of a strip in input row `row`.
template <class T>
struct Neighbours {
  Vec<T> left, middle, right;
};
template <int stride, class G, class T>
PCDARTS_INLINE Neighbours<T> neighbours(const G& g, const T* raw, auto strip, int row) {
  using Layout = typename G::Layout;
  if constexpr (stride == 1) {
    const T* p = in_map(g, raw, strip.s, row);
    return {left_of<Layout>(strip, p, kLowest<T>), load8(p),
            right_of<Layout>(strip, p, kLowest<T>)};
  } else {
    const T* even = in_map(g, raw + (2 * (row & 1)) * g.map, strip.s, row / 2);
    const T* odd = even + g.map;
    return {left_of<Layout>(strip, odd, kLowest<T>), load8(even), load8(odd)};
  }
}

// Which lanes of each neighbour lie inside the image.
template <class T>
struct Inside {
  Mask<T> left, middle, right;
  Vec<T> per_column;  // 1 / how many of them do
};
template <int stride, class T, class G>
PCDARTS_INLINE Inside<T> inside(const G& g, auto strip) {
  const int count = strip.last ? g.tail : kLanes, column = G::Layout::column;
  Inside<T> in;
  in.middle = first_lanes<T>(count);
  in.left = strip.first ? ~first_lanes<T>(column) : first_lanes<T>(kLanes);
  in.right = first_lanes<T>(stride == 1 && strip.last ? count - column : count);
  const Vec<T> one = splat(T{1});
  in.per_column = one / (one + keep<T>(in.left, one) + keep<T>(in.right, one));
  return in;
}
template <bool edge, class T>
PCDARTS_INLINE Vec<T> keep_at(Mask<T> mask, Vec<T> v) {
  return edge ? keep<T>(mask, v) : v;
}

// Of one row of the input: maximum and sum of three neighbours, or the gradients of both.
template <class T>
struct RowPool {
  Vec<T> largest, sum;
};
template <class T>
PCDARTS_INLINE RowPool<T> no_row() {
  return {splat(kLowest<T>), Vec<T>{}};
}
template <int stride, class T>
PCDARTS_INLINE RowPool<T> pool_row(const auto& g, const T* raw, auto strip, int row,
                                   const Inside<T>& in) {
  const Neighbours<T> n = neighbours<stride>(g, raw, strip, row);
  return {maximum<T>(maximum<T>(n.left, n.middle), n.right),
          keep_at<strip.first, T>(in.left, n.left) + keep_at<strip.last, T>(in.middle, n.middle) +
              keep_at<strip.last, T>(in.right, n.right)};
}

// f(output row, its three input rows) down a strip; the rows stay in registers.
template <int stride, class T, class F>
PCDARTS_INLINE void for_windows(const auto& g, const T* raw, auto strip, const Inside<T>& in, F f) {
  RowPool<T> above = no_row<T>();
  if constexpr (stride == 1) {
    RowPool<T> here = pool_row<1>(g, raw, strip, 0, in);
    for (int y = 0; y + 1 < g.height; ++y) {
      const RowPool<T> below = pool_row<1>(g, raw, strip, y + 1, in);
      f(y, above, here, below);
      above = here, here = below;
    }
    f(g.height - 1, above, here, no_row<T>());
  } else {
    for (int y = 0; y < g.height; ++y) {
      const RowPool<T> here = pool_row<2>(g, raw, strip, 2 * y, in),
                       below = pool_row<2>(g, raw, strip, 2 * y + 1, in);
      f(y, above, here, below);
      above = below;
    }
  }
}

// 1 / how many of an output row's three input rows lie inside the image.
template <int stride, class T>
PCDARTS_INLINE T per_row(const auto& g, int y) {
  const int missing = (y == 0) + (stride == 1 && y == g.height - 1);
  return T{1} / static_cast<T>(3 - missing);
}

// f(strip, row, maximum, average); lanes outside the image are zero.
template <int stride, class T, class F>
PCDARTS_INLINE void pool(const auto& g, const T* raw, F f) {
  for_strips(g, [&](auto strip) __attribute__((always_inline)) {
    const Inside<T> in = inside<stride, T>(g, strip);
    const auto window = [&](int y, const RowPool<T>& above, const RowPool<T>& here,
                            const RowPool<T>& below) __attribute__((always_inline)) {
      const Vec<T> largest = maximum<T>(maximum<T>(above.largest, here.largest), below.largest);
      const Vec<T> sum = above.sum + here.sum + below.sum;
      const Vec<T> average = sum * in.per_column * splat(per_row<stride, T>(g, y));
      f(strip.s, y, keep_at<strip.last, T>(in.middle, largest),
        keep_at<strip.last, T>(in.middle, average));
    };
    for_windows<stride>(g, raw, strip, in, window);
  });
}

// Both pools of a channel as maps: the maximum in pooled [2] maps, then the average.
template <int stride, class S, class T>
PCDARTS_INLINE void pool_to_maps(const auto& g, const S* x, const PoolScratch<T>& scratch,
                                 T* pooled) {
  const T* raw = as_maps<stride>(g, x, scratch.raw, kLowest<T>);
  pool<stride>(g, raw, [&](int s, int y, Vec<T> largest, Vec<T> average) {
    store8(in_map(g, pooled, s, y), largest);
    store8(in_map(g, pooled + g.map, s, y), average);
  });
}

// Which of three values wins, the third where neither: the first one that is the largest of them,
// or the last NaN, as in PyTorch.
template <class T>
struct Winner3 {
  Mask<T> first, second;
};
template <class T>
PCDARTS_NOINLINE Winner3<T> last_nan(Winner3<T> winner, Vec<T> a, Vec<T> b, Vec<T> c) {
  const Mask<T> third = c != c, second = (b != b) & ~third;
  return {winner.first | ((a != a) & ~second & ~third), winner.second | second};
}
template <class T>
PCDARTS_INLINE Winner3<T> winner_of(Vec<T> a, Vec<T> b, Vec<T> c, Vec<T> largest,
                                    Mask<T> has_first) {
  const Mask<T> first = (a == largest) & has_first;
  const Winner3<T> winner = {first, ~first & (b == largest)};
  if (any<T>(largest != largest)) [[unlikely]]
    return last_nan<T>(winner, a, b, c);
  return winner;
}

// The gradient of the channel, but for what goes to another strip, which waits in the scratch (see
// with_neighbours): maps[phase] = base(phase, strip, row) + gradient. dmax(strip, row, maximum) and
// davg(strip, row, average) give the pools' gradients.
template <int stride, class T, class FMax, class FAvg, class FBase>
PCDARTS_INLINE void pool_gradient(const auto& g, const T* raw, const PoolScratch<T>& scratch,
                                  FMax dmax, FAvg davg, FBase base, T* maps) {
  for_strips(g, [&](auto strip) __attribute__((always_inline)) {
    const Inside<T> in = inside<stride, T>(g, strip);
    const int s = strip.s;
    // to the columns of an input row whose windows are all done
    const auto finish = [&](int row, Vec<T> largest,
                            const RowPool<T>& d) __attribute__((always_inline)) {
      const Neighbours<T> n = neighbours<stride>(g, raw, strip, row);
      const int y = row / stride, odd_row = row % stride, phase = 2 * odd_row;
      // At the border is -infinity, which is the largest where all of a window is.
      const Mask<T> has_left = strip.first ? in.left : first_lanes<T>(kLanes);
      const Winner3<T> w = winner_of<T>(n.left, n.middle, n.right, largest, has_left);
      const Vec<T> to_right = d.sum + keep<T>(~(w.first | w.second), d.largest);
      store8(in_map(g, scratch.left + odd_row * g.map, s, y), d.sum + keep<T>(w.first, d.largest));
      const Vec<T> own = base(phase, s, y) + d.sum + keep<T>(w.second, d.largest);
      store8(in_map(g, maps + phase * g.map, s, y), own);
      if constexpr (stride == 1) {
        store8(in_map(g, scratch.right, s, y), to_right);
      } else {
        store8(in_map(g, maps + (phase + 1) * g.map, s, y), base(phase + 1, s, y) + to_right);
      }
    };
    RowPool<T> to_above = {}, to_here = {};  // from the windows before this one
    Vec<T> last = {};
    const auto spread = [&](int y, const RowPool<T>& above, const RowPool<T>& here,
                            const RowPool<T>& below) __attribute__((always_inline)) {
      const Vec<T> scale = in.per_column * splat(per_row<stride, T>(g, y));
      const Vec<T> average = (above.sum + here.sum + below.sum) * scale;
      const Vec<T> largest = maximum<T>(maximum<T>(above.largest, here.largest), below.largest);
      const Vec<T> dm = keep_at<strip.last, T>(in.middle, dmax(s, y, largest));
      const Vec<T> da = keep_at<strip.last, T>(in.middle, davg(s, y, average) * scale);
      const Mask<T> has_above = first_lanes<T>(y > 0 ? kLanes : 0);
      const Winner3<T> w =
          winner_of<T>(above.largest, here.largest, below.largest, largest, has_above);
      to_above.largest += keep<T>(w.first, dm), to_above.sum += da;
      to_here.largest += keep<T>(w.second, dm), to_here.sum += da;
      const RowPool<T> to_below = {keep<T>(~(w.first | w.second), dm), da};
      if (y > 0) finish(stride * y - 1, above.largest, to_above);
      if constexpr (stride == 1) {
        to_above = to_here, to_here = to_below, last = here.largest;
      } else {
        finish(2 * y, here.largest, to_here);
        to_above = to_below, to_here = RowPool<T>{}, last = below.largest;
      }
    };
    for_windows<stride>(g, raw, strip, in, spread);
    finish(stride * g.height - 1, last, to_above);
  });
}

// A value of pool_gradient's maps with what other columns send to it.
template <int stride, class G, class T>
PCDARTS_INLINE Vec<T> with_neighbours(const G& g, const PoolScratch<T>& scratch, const T* maps,
                                      int phase, int s, int y) {
  using Layout = typename G::Layout;
  const AnyStrip strip = {s == 0, s + 1 == g.strips, s};
  Vec<T> v = load8(in_map(g, maps + phase * g.map, s, y));
  if (stride == 1 || phase % 2 == 1) {
    v += right_of<Layout>(strip, in_map(g, scratch.left + phase / 2 * g.map, s, y), T{0});
  }
  if (stride == 1) v += left_of<Layout>(strip, in_map(g, scratch.right, s, y), T{0});
  return v;
}

}  // namespace
}  // namespace pcdarts::PCDARTS_ISA
