// 3x3 maximum and average pools (padding 1, the border not counted) of a channel at once, of two
// where they share registers of AVX-512. Both are separable: first along the row, then over three
// rows.
#pragma once
#include "common/channels.h"
#include "common/chunks.h"

namespace pcdarts::PCDARTS_ISA {
namespace {

// Working memory for the channels of a register.
template <class T>
struct PoolScratch {
  T* raw;           // [parts, phases] maps
  T *left, *right;  // [stride, parts], [parts] maps: gradients on their way to another column
};
template <class T>
PCDARTS_INLINE PoolScratch<T> take_pool(Pieces& pieces, const auto& g, int stride) {
  PoolScratch<T> pool = {};
  const int64_t maps = int64_t{kParts<T>} * g.map;
  pool.raw = take<T>(pieces, stride * stride * maps);
  pool.left = take<T>(pieces, stride * maps);
  pool.right = take<T>(pieces, maps);
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

// A register whose lanes hold their right (left) neighbours' values, `border` beyond each vector.
template <class V, class T>
PCDARTS_INLINE V moved_left(V v, T border) {
  const V beyond = splat_as<V>(border);
  if constexpr (kElements<V, T> == kLanes) {
    return __builtin_shufflevector(v, beyond, 1, 2, 3, 4, 5, 6, 7, 8);
  } else {
    return __builtin_shufflevector(v, beyond, 1, 2, 3, 4, 5, 6, 7, 16, 9, 10, 11, 12, 13, 14, 15,
                                   24);
  }
}
template <class V, class T>
PCDARTS_INLINE V moved_right(V v, T border) {
  const V beyond = splat_as<V>(border);
  if constexpr (kElements<V, T> == kLanes) {
    return __builtin_shufflevector(beyond, v, 7, 8, 9, 10, 11, 12, 13, 14);
  } else {
    return __builtin_shufflevector(beyond, v, 7, 16, 17, 18, 19, 20, 21, 22, 15, 24, 25, 26, 27, 28,
                                   29, 30);
  }
}

// Every lane's left (right) neighbour, `border` beyond the map, of the vectors at `p` and behind
// it.
template <class Layout, class T>
PCDARTS_INLINE Wide<T> left_of(auto strip, const T* p, int64_t apart, T border) {
  using V = Wide<T>;
  if (!strip.first) return load_beside<V>(p - Layout::column, apart);
  if constexpr (kWhole<Layout>) return splat_as<V>(border);
  return moved_right(load_beside<V>(p, apart), border);
}
template <class Layout, class T>
PCDARTS_INLINE Wide<T> right_of(auto strip, const T* p, int64_t apart, T border) {
  using V = Wide<T>;
  if (!strip.last) return load_beside<V>(p + Layout::column, apart);
  if constexpr (kWhole<Layout>) return splat_as<V>(border);
  return moved_left(load_beside<V>(p, apart), border);
}

// Left, middle and right neighbour of every output column of a strip in input row `row`.
template <class T>
struct Neighbours {
  Wide<T> left, middle, right;
};
template <int stride, class G, class T>
PCDARTS_INLINE Neighbours<T> neighbours(const G& g, const Channels<const T>& raw, auto strip,
                                        int row) {
  using Layout = typename G::Layout;
  using V = Wide<T>;
  if constexpr (stride == 1) {
    const T* p = in_map(g, raw.map, strip.s, row);
    return {left_of<Layout>(strip, p, raw.apart, kLowest<T>), load_beside<V>(p, raw.apart),
            right_of<Layout>(strip, p, raw.apart, kLowest<T>)};
  } else {
    const T* even = in_map(g, raw.map + (2 * (row & 1)) * g.map, strip.s, row / 2);
    const T* odd = even + g.map;
    return {left_of<Layout>(strip, odd, raw.apart, kLowest<T>), load_beside<V>(even, raw.apart),
            load_beside<V>(odd, raw.apart)};
  }
}

// Which lanes of each neighbour lie inside the image.
template <class T>
struct Inside {
  MaskOf<Wide<T>> left, middle, right;
  Wide<T> per_column;  // 1 / how many of them do
};
template <int stride, class T, class G>
PCDARTS_INLINE Inside<T> inside(const G& g, auto strip) {
  using V = Wide<T>;
  const int count = strip.last ? g.tail : kLanes, column = G::Layout::column;
  Inside<T> in;
  in.middle = lanes_before<V, T>(count);
  in.left = lanes_before<V, T>(kLanes);
  if (strip.first) in.left &= ~lanes_before<V, T>(column);
  in.right = lanes_before<V, T>(stride == 1 && strip.last ? count - column : count);
  const V one = splat_as<V>(T{1});
  in.per_column = one / (one + keep(in.left, one) + keep(in.right, one));
  return in;
}
template <bool edge, class V>
PCDARTS_INLINE V keep_at(MaskOf<V> mask, V v) {
  return edge ? keep(mask, v) : v;
}

// Of one row of the input: maximum and sum of three neighbours, or the gradients of both.
template <class T>
struct RowPool {
  Wide<T> largest, sum;
};
template <class T>
PCDARTS_INLINE RowPool<T> no_row() {
  return {splat_as<Wide<T>>(kLowest<T>), Wide<T>{}};
}
template <int stride, class T>
PCDARTS_INLINE RowPool<T> pool_row(const auto& g, const Channels<const T>& raw, auto strip, int row,
                                   const Inside<T>& in) {
  const Neighbours<T> n = neighbours<stride>(g, raw, strip, row);
  return {maximum(maximum(n.left, n.middle), n.right),
          keep_at<strip.first>(in.left, n.left) + keep_at<strip.last>(in.middle, n.middle) +
              keep_at<strip.last>(in.right, n.right)};
}

// f(output row, its three input rows) down a strip; the rows stay in registers.
template <int stride, class T, class F>
PCDARTS_INLINE void for_windows(const auto& g, const Channels<const T>& raw, auto strip,
                                const Inside<T>& in, F f) {
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
  constexpr T by_missing[] = {T{1} / 3, T{1} / 2, T{1}};
  return by_missing[(y == 0) + (stride == 1 && y == g.height - 1)];
}

// f(strip, row, maximum, average); lanes outside the image are zero.
template <int stride, class T, class F>
PCDARTS_INLINE void pool(const auto& g, const Channels<const T>& raw, F f) {
  using V = Wide<T>;
  for_strips(g, [&](auto strip) __attribute__((always_inline)) {
    const Inside<T> in = inside<stride, T>(g, strip);
    const auto window = [&](int y, const RowPool<T>& above, const RowPool<T>& here,
                            const RowPool<T>& below) __attribute__((always_inline)) {
      const V largest = maximum(maximum(above.largest, here.largest), below.largest);
      const V sum = above.sum + here.sum + below.sum;
      const V average = sum * in.per_column * splat_as<V>(per_row<stride, T>(g, y));
      f(strip.s, y, keep_at<strip.last>(in.middle, largest),
        keep_at<strip.last>(in.middle, average));
    };
    for_windows<stride>(g, raw, strip, in, window);
  });
}

// Both pools of one or two channels as maps: pooled [parts, 2] maps, the maximum first.
template <int stride, class S, class T>
PCDARTS_INLINE void pool_to_maps(const auto& g, const S* x, const S* beside,
                                 const PoolScratch<T>& scratch, T* pooled) {
  const Channels<const T> raw = as_channels<stride>(g, x, beside, scratch.raw, kLowest<T>);
  const int64_t apart = beside == x ? 0 : int64_t{2} * g.map;
  pool<stride>(g, raw, [&](int s, int y, Wide<T> largest, Wide<T> average) {
    store_beside(in_map(g, pooled, s, y), apart, largest);
    store_beside(in_map(g, pooled + g.map, s, y), apart, average);
  });
}

}  // namespace
}  // namespace pcdarts::PCDARTS_ISA
