// 3x3 maximum and average pools (padding 1, the border not counted) of one channel at once. Both
// are separable: first along the row, then over three rows; backward routes the same way back.
#pragma once
#include "common/strips.h"

namespace pcdarts::PCDARTS_ISA {
namespace {

// Working memory for one channel, and the raw values in planes whose border is -infinity.
template <class T>
struct PoolScratch {
  T* raw;                // [phases] planes
  T *row_max, *row_sum;  // [stride * H + 2] vectors: of three neighbours in every input row
  T *row_max_grad, *row_sum_grad;  // their gradients
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

template <int stride, class T>
PCDARTS_INLINE void pool_rows(const auto& g, const PoolScratch<T>& scratch, int s,
                              const Inside<T>& in) {
  const int rows = stride * g.height;
  store8(scratch.row_max, splat(kLowest<T>)), store8(scratch.row_sum, Vec<T>{});
  for (int row = 0; row < rows; ++row) {
    const Neighbours<T> n = neighbours<stride>(g, scratch.raw, s, row);
    const int at = (row + 1) * kLanes;
    store8(scratch.row_max + at, maximum<T>(maximum<T>(n.left, n.middle), n.right));
    store8(scratch.row_sum + at,
           keep<T>(in.left, n.left) + keep<T>(in.middle, n.middle) + keep<T>(in.right, n.right));
  }
  const int end = (rows + 1) * kLanes;
  store8(scratch.row_max + end, splat(kLowest<T>)), store8(scratch.row_sum + end, Vec<T>{});
}

// 1 / how many of an output row's three input rows lie inside the image.
template <int stride, class T>
PCDARTS_INLINE T per_row(const auto& g, int y) {
  const int missing = (y == 0) + (stride == 1 && y == g.height - 1);
  return T{1} / static_cast<T>(3 - missing);
}

// f(strip, row, maximum, average); lanes outside the image are zero.
template <int stride, class T, class F>
PCDARTS_INLINE void pool(const auto& g, const PoolScratch<T>& scratch, F f) {
  for (int s = 0; s < g.strips; ++s) {
    const Inside<T> in = inside<stride, T>(g, s);
    pool_rows<stride>(g, scratch, s, in);
    for (int y = 0; y < g.height; ++y) {
      const int at = stride * y * kLanes;
      const T *m = scratch.row_max + at, *a = scratch.row_sum + at;
      const Vec<T> largest =
          maximum<T>(maximum<T>(load8(m), load8(m + kLanes)), load8(m + 2 * kLanes));
      const Vec<T> sum = load8(a) + load8(a + kLanes) + load8(a + 2 * kLanes);
      const Vec<T> average = sum * in.per_column * splat(per_row<stride, T>(g, y));
      f(s, y, keep<T>(in.middle, largest), keep<T>(in.middle, average));
    }
  }
}

// maps[phase] += the gradient of the channel; dmax(strip, row, maximum) and davg(strip, row,
// average) give the pools' gradients.
template <int stride, class T, class FMax, class FAvg>
PCDARTS_INLINE void pool_gradient(const auto& g, const PoolScratch<T>& scratch, FMax dmax,
                                  FAvg davg, T* maps) {
  for (int s = 0; s < g.strips; ++s) {
    const Inside<T> in = inside<stride, T>(g, s);
    pool_rows<stride>(g, scratch, s, in);
    const int rows = stride * g.height;
    fill(scratch.row_max_grad, (rows + 2) * kLanes, T{0});
    fill(scratch.row_sum_grad, (rows + 2) * kLanes, T{0});
    for (int y = 0; y < g.height; ++y) {
      const int at = stride * y * kLanes;
      const T *m = scratch.row_max + at, *a = scratch.row_sum + at;
      const Vec<T> m0 = load8(m), m1 = load8(m + kLanes), m2 = load8(m + 2 * kLanes);
      const Vec<T> scale = in.per_column * splat(per_row<stride, T>(g, y));
      const Vec<T> average = (load8(a) + load8(a + kLanes) + load8(a + 2 * kLanes)) * scale;
      const Vec<T> largest = maximum<T>(maximum<T>(m0, m1), m2);
      const Vec<T> dm = keep<T>(in.middle, dmax(s, y, largest));
      const Vec<T> da = keep<T>(in.middle, davg(s, y, average) * scale);
      const Mask<T> first = m0 == largest, second = ~first & (m1 == largest);
      T *gm = scratch.row_max_grad + at, *ga = scratch.row_sum_grad + at;
      store8(gm, load8(gm) + keep<T>(first, dm));
      store8(gm + kLanes, load8(gm + kLanes) + keep<T>(second, dm));
      store8(gm + 2 * kLanes, load8(gm + 2 * kLanes) + keep<T>(~(first | second), dm));
      PCDARTS_UNROLL for (int i = 0; i < 3; ++i) {
        store8(ga + i * kLanes, load8(ga + i * kLanes) + da);
      }
    }
    for (int row = 0; row < rows; ++row) {
      const Neighbours<T> n = neighbours<stride>(g, scratch.raw, s, row);
      const int at = (row + 1) * kLanes, y = row / stride, odd_row = row % stride;
      const Vec<T> dm = load8(scratch.row_max_grad + at), da = load8(scratch.row_sum_grad + at);
      const Vec<T> largest = load8(scratch.row_max + at);
      const Mask<T> first = n.left == largest, second = ~first & (n.middle == largest);
      const Vec<T> to_right = da + keep<T>(~(first | second), dm);
      T* middle = in_map(g, maps + 2 * odd_row * g.map, s, y);
      store8(middle, load8(middle) + da + keep<T>(second, dm));
      put(g, scratch.left + odd_row * g.plane, s, y, da + keep<T>(first, dm));
      if constexpr (stride == 1) {
        put(g, scratch.right, s, y, to_right);
      } else {
        T* right = middle + g.map;
        store8(right, load8(right) + to_right);
      }
    }
  }
  for (int s = 0; s < g.strips; ++s) {
    for (int row = 0; row < stride * g.height; ++row) {
      const int y = row / stride, odd_row = row % stride;
      T* to = in_map(g, maps + (stride == 1 ? 0 : 2 * odd_row + 1) * g.map, s, y);
      Vec<T> v = load8(to) + load8(in_plane(g, scratch.left + odd_row * g.plane, s, y) + 1);
      if constexpr (stride == 1) v += load8(in_plane(g, scratch.right, s, y) - 1);
      store8(to, v);
    }
  }
}

}  // namespace
}  // namespace pcdarts::PCDARTS_ISA
