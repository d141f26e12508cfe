// 3x3 maximum and average pools (padding 1, the border not counted) of one channel at once. Both
// are separable: first along the row, then over three rows; backward routes the same way back.
#pragma once
#include "common/strips.h"

namespace pcdarts::PCDARTS_ISA {
namespace {

// Working memory for one channel, and the raw values in planes whose border is -infinity.
template <class T>
struct PoolScratch {
  T* raw;           // [phases] planes
  T *left, *right;  // [stride] planes: gradients on their way to a neighbouring column
};

template <class T>
constexpr T kLowest = -__builtin_huge_val();

template <int stride, class S, class T>
PCDARTS_INLINE void load_raw(const auto& g, const S* x, T* raw) {
  const Mask<T> valid = first_lanes<T>(g.tail);
  read_channel<stride>(g, x, [&](int phase, int s, int y, Vec<T> v) {
    put(g, raw + phase * g.plane, s, y, is_short(g, s) ? valid ? v : splat(kLowest<T>) : v);
  });
}

// Left, middle and right neighbour of output column 0 of strip s in input row `row`.
template <class T>
struct Neighbours {
  Vec<T> left, middle, right;
};
template <int stride, class T>
PCDARTS_INLINE Neighbours<T> neighbours(const auto& g, const T* raw, int s, int row) {
  if constexpr (stride == 1) {
    const T* p = in_plane(g, raw, s, row);
    return {load8(p - 1), load8(p), load8(p + 1)};
  } else {
    const T* even = in_plane(g, raw + (2 * (row & 1)) * g.plane, s, row / 2);
    const T* odd = even + g.plane;
    return {load8(odd - 1), load8(even), load8(odd)};
  }
}

// Which lanes of each neighbour lie inside the image.
template <class T>
struct Inside {
  Mask<T> left, middle, right;
  Vec<T> per_column;  // 1 / how many of them do
};
template <int stride, class T>
PCDARTS_INLINE Inside<T> inside(const auto& g, int s) {
  const int count = s == g.strips - 1 ? g.tail : kLanes;
  const bool at_end = stride == 1 && s == g.strips - 1;
  Inside<T> in;
  in.middle = first_lanes<T>(count);
  in.left = s == 0 ? ~first_lanes<T>(1) : first_lanes<T>(kLanes);
  in.right = first_lanes<T>(at_end ? count - 1 : count);
  const Vec<T> one = splat(T{1});
  in.per_column = one / (one + keep<T>(in.left, one) + keep<T>(in.right, one));
  return in;
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
PCDARTS_INLINE RowPool<T> pool_row(const auto& g, const T* raw, int s, int row,
                                   const Inside<T>& in) {
  const Neighbours<T> n = neighbours<stride>(g, raw, s, row);
  return {maximum<T>(maximum<T>(n.left, n.middle), n.right),
          keep<T>(in.left, n.left) + keep<T>(in.middle, n.middle) + keep<T>(in.right, n.right)};
}

// f(output row, its three input rows) down strip s; the rows stay in registers.
template <int stride, class T, class F>
PCDARTS_INLINE void for_windows(const auto& g, const T* raw, int s, const Inside<T>& in, F f) {
  RowPool<T> above = no_row<T>();
  if constexpr (stride == 1) {
    RowPool<T> here = pool_row<1>(g, raw, s, 0, in);
    for (int y = 0; y + 1 < g.height; ++y) {
      const RowPool<T> below = pool_row<1>(g, raw, s, y + 1, in);
      f(y, above, here, below);
      above = here, here = below;
    }
    f(g.height - 1, above, here, no_row<T>());
  } else {
    for (int y = 0; y < g.height; ++y) {
      const RowPool<T> here = pool_row<2>(g, raw, s, 2 * y, in),
                       below = pool_row<2>(g, raw, s, 2 * y + 1, in);
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
  for (int s = 0; s < g.strips; ++s) {
    const Inside<T> in = inside<stride, T>(g, s);
    const auto window = [&](int y, const RowPool<T>& above, const RowPool<T>& here,
                            const RowPool<T>& below) __attribute__((always_inline)) {
      const Vec<T> largest = maximum<T>(maximum<T>(above.largest, here.largest), below.largest);
      const Vec<T> sum = above.sum + here.sum + below.sum;
      const Vec<T> average = sum * in.per_column * splat(per_row<stride, T>(g, y));
      f(s, y, keep<T>(in.middle, largest), keep<T>(in.middle, average));
    };
    for_windows<stride>(g, raw, s, in, window);
  }
}

// The gradient of the channel, but for what goes to another column, which waits in the scratch (see
// with_neighbours): maps[phase] = base(phase, strip, row) + gradient. dmax(strip, row, maximum) and
// davg(strip, row, average) give the pools' gradients.
template <int stride, class T, class FMax, class FAvg, class FBase>
PCDARTS_INLINE void pool_gradient(const auto& g, const PoolScratch<T>& scratch, FMax dmax,
                                  FAvg davg, FBase base, T* maps) {
  for (int s = 0; s < g.strips; ++s) {
    const Inside<T> in = inside<stride, T>(g, s);
    // to the columns of an input row whose windows are all done
    const auto finish = [&](int row, Vec<T> largest,
                            const RowPool<T>& d) __attribute__((always_inline)) {
      const Neighbours<T> n = neighbours<stride>(g, scratch.raw, s, row);
      const int y = row / stride, odd_row = row % stride, phase = 2 * odd_row;
      const Mask<T> first = n.left == largest, second = ~first & (n.middle == largest);
      const Vec<T> to_right = d.sum + keep<T>(~(first | second), d.largest);
      store8(in_map(g, maps + phase * g.map, s, y),
             base(phase, s, y) + d.sum + keep<T>(second, d.largest));
      put(g, scratch.left + odd_row * g.plane, s, y, d.sum + keep<T>(first, d.largest));
      if constexpr (stride == 1) {
        put(g, scratch.right, s, y, to_right);
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
      const Vec<T> dm = keep<T>(in.middle, dmax(s, y, largest));
      const Vec<T> da = keep<T>(in.middle, davg(s, y, average) * scale);
      const Mask<T> first = above.largest == largest, second = ~first & (here.largest == largest);
      to_above.largest += keep<T>(first, dm), to_above.sum += da;
      to_here.largest += keep<T>(second, dm), to_here.sum += da;
      const RowPool<T> to_below = {keep<T>(~(first | second), dm), da};
      if (y > 0) finish(stride * y - 1, above.largest, to_above);
      if constexpr (stride == 1) {
        to_above = to_here, to_here = to_below, last = here.largest;
      } else {
        finish(2 * y, here.largest, to_here);
        to_above = to_below, to_here = RowPool<T>{}, last = below.largest;
      }
    };
    for_windows<stride>(g, scratch.raw, s, in, spread);
    finish(stride * g.height - 1, last, to_above);
  }
}

// A value of pool_gradient's maps with what other columns send to it.
template <int stride, class T>
PCDARTS_INLINE Vec<T> with_neighbours(const auto& g, const PoolScratch<T>& scratch, const T* maps,
                                      int phase, int s, int y) {
  Vec<T> v = load8(in_map(g, maps + phase * g.map, s, y));
  if (stride == 1 || phase % 2 == 1) {
    v += load8(in_plane(g, scratch.left + phase / 2 * g.plane, s, y) + 1);
  }
  if (stride == 1) v += load8(in_plane(g, scratch.right, s, y) - 1);
  return v;
}

}  // namespace
}  // namespace pcdarts::PCDARTS_ISA
