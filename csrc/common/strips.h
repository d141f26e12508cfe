// How the CPU engine lays out one channel of one sample while it works on it. A channel [H, W] is
// cut into strips of 8 columns; the last may hold fewer, its remaining lanes are zero.
//
//   map    strips of [H] rows of 8: what pointwise convolutions and reductions walk through
//   plane  strips of [4 + H + 4] rows of 16 = [4 left | 8 own | 4 right]: what depthwise taps
//          read. The neighbours' columns are stored twice and the border holds zeros, so that no
//          shifted load needs a test or crosses a cache line.
//
// Stride 2 splits a channel [2H, 2W] into four phases [H, W] by the parity of row and column
// (phase = 2 * (row & 1) + (column & 1)), on which everything is stride 1 again.
#pragma once
#include "common/simd.h"

namespace pcdarts::PCDARTS_ISA {
namespace {

constexpr int kBorder = 4;  // reach of a 5x5 kernel of dilation 2
constexpr int kRow = kBorder + kLanes + kBorder;

struct Grid {
  int height, width, strips;
  int tail;           // columns in the last strip, 1..8
  int map;            // elements of a map
  int strip, plane;   // elements of a strip of a plane, and of a plane
  int vectors;        // of a map
};

PCDARTS_INLINE Grid make_grid(int64_t height, int64_t width) {
  Grid g = {};
  g.height = static_cast<int>(height), g.width = static_cast<int>(width);
  g.strips = (g.width + kLanes - 1) / kLanes;
  g.tail = g.width - (g.strips - 1) * kLanes;
  g.vectors = g.strips * g.height;
  g.map = g.vectors * kLanes;
  g.strip = (g.height + 2 * kBorder) * kRow;
  g.plane = g.strips * g.strip;
  return g;
}

// Whether strip s holds fewer than 8 columns.
PCDARTS_INLINE bool is_short(const Grid& g, int s) { return s == g.strips - 1 && g.tail < kLanes; }

// Lane 0 of row y of strip s.
template <class T>
PCDARTS_INLINE T* in_map(const Grid& g, T* map, int s, int y) {
  return map + (s * g.height + y) * kLanes;
}
template <class T>
PCDARTS_INLINE T* in_plane(const Grid& g, T* plane, int s, int y) {
  return plane + s * g.strip + (y + kBorder) * kRow + kBorder;
}

template <class T>
PCDARTS_INLINE void put(const Grid& g, T* plane, int s, int y, Vec<T> v) {
  T* own = in_plane(g, plane, s, y);
  store8(own, v);
  if (s > 0) __builtin_memcpy(own - g.strip + kLanes, &v, kBorder * sizeof(T));
  if (s + 1 < g.strips) {
    const Vec<T> right = __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3);
    __builtin_memcpy(own + g.strip - kBorder, &right, kBorder * sizeof(T));
  }
}

template <class T>
PCDARTS_INLINE void fill(T* p, int64_t count, T value) {
  for (int64_t i = 0; i < count; ++i) p[i] = value;
}

// Reads a row-major channel x [stride * H, stride * W]: f(phase, strip, row, values).
template <int stride, class S, class F>
PCDARTS_INLINE void read_channel(const Grid& g, const S* x, F f) {
  const int64_t width = static_cast<int64_t>(stride) * g.width;
  for (int s = 0; s < g.strips; ++s) {
    const int count = stride * (is_short(g, s) ? g.tail : kLanes);
    for (int y = 0; y < g.height; ++y) {
      for (int row = 0; row < stride; ++row) {
        const S* p = x + (stride * y + row) * width + stride * s * kLanes;
        if constexpr (stride == 1) {
          f(0, s, y, count == kLanes ? load8(p) : load_some(p, count));
        } else {
          const bool full = count == 2 * kLanes;
          const auto a = full ? load8(p) : load_some(p, count < kLanes ? count : kLanes);
          const auto b = full              ? load8(p + kLanes)
                         : count > kLanes ? load_some(p + kLanes, count - kLanes)
                                          : load_some(p, 0);
          f(2 * row, s, y, even_lanes(a, b));
          f(2 * row + 1, s, y, odd_lanes(a, b));
        }
      }
    }
  }
}

// Writes a row-major channel [stride * H, stride * W] from f(phase, strip, row, address) -> values,
// where `address` is that of the first value (for one that adds to what another array holds there).
template <int stride, class S, class F>
PCDARTS_INLINE void write_channel(const Grid& g, S* x, F f) {
  const int64_t width = static_cast<int64_t>(stride) * g.width;
  for (int s = 0; s < g.strips; ++s) {
    const int count = stride * (is_short(g, s) ? g.tail : kLanes);
    for (int y = 0; y < g.height; ++y) {
      for (int row = 0; row < stride; ++row) {
        S* p = x + (stride * y + row) * width + stride * s * kLanes;
        if constexpr (stride == 1) {
          const auto v = f(0, s, y);
          if (count == kLanes) {
            store8(p, v);
          } else {
            store_some(p, v, count);
          }
        } else {
          const auto even = f(2 * row, s, y), odd = f(2 * row + 1, s, y);
          const auto a = interleave_low(even, odd), b = interleave_high(even, odd);
          if (count == 2 * kLanes) {
            store8(p, a), store8(p + kLanes, b);
          } else {
            store_some(p, a, count < kLanes ? count : kLanes);
            if (count > kLanes) store_some(p + kLanes, b, count - kLanes);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace pcdarts::PCDARTS_ISA
