// How the CPU engine lays out one channel of one sample while it works on it. A channel [H, W] is
// cut into strips of 8 columns; the last may hold fewer, its remaining lanes are zero.
//
//   map    row-major [H] rows of whole strips, so that a dense channel whose W is a multiple of 8
//          is a map as it stands: what pointwise convolutions and reductions walk through
//   plane  strips of [4 + H + 4] rows of 16 = [4 left | 8 own | 4 right]: what depthwise taps
//          read. The neighbours' columns are stored twice and the border holds zeros, so that no
//          shifted load needs a test or crosses a cache line.
//
// Stride 2 splits a channel [2H, 2W] into four phases [H, W] by the parity of row and column
// (phase = 2 * (row & 1) + (column & 1)), on which everything is stride 1 again.
//
// Where maps are small, eight samples are one stack instead, an image [H, W, 8] with a sample in
// each lane: its strips are the columns, no lane lies outside, and its plane has no columns beside
// the image, since taps that would read them are left out.
#pragma once
#include "common/masks.h"

namespace pcdarts::PCDARTS_ISA {
namespace {

constexpr int kBorder = 4;  // reach of a 5x5 kernel of dilation 2
constexpr int kRow = kBorder + kLanes + kBorder;
constexpr int kMostStacked = 7;  // rows and columns of a stack; 8 columns fill a strip

// Elements between neighbouring rows and columns of a plane, and left of its first own column.
struct StripLayout {
  static constexpr int row = kRow, column = 1, left = kBorder;
};
struct StackLayout {
  static constexpr int row = (kMostStacked + 1) * kLanes, column = kLanes, left = 0;
};
template <class Layout>
constexpr bool kWhole = Layout::column == kLanes;  // a strip is one column, of eight samples

// Functions take any grid; one of fixed size has its numbers known to the compiler, which small
// maps need: their loops are short.
struct Grid {
  using Layout = StripLayout;
  int height, width, strips;
  int tail;          // columns in the last strip, 1..8
  int row, map;      // elements of a row of a map, and of a map
  int strip, plane;  // elements of a strip of a plane, and of a plane
  int vectors;       // of a map
};

PCDARTS_INLINE Grid make_grid(int64_t height, int64_t width) {
  Grid g = {};
  g.height = static_cast<int>(height), g.width = static_cast<int>(width);
  g.strips = (g.width + kLanes - 1) / kLanes;
  g.tail = g.width - (g.strips - 1) * kLanes;
  g.vectors = g.strips * g.height;
  g.row = g.strips * kLanes, g.map = g.vectors * kLanes;
  g.strip = (g.height + 2 * kBorder) * kRow;
  g.plane = g.strips * g.strip;
  return g;
}

template <int size>
struct SquareGrid {
  using Layout = StripLayout;
  static constexpr int height = size, width = size, strips = (size + kLanes - 1) / kLanes;
  static constexpr int tail = size - (strips - 1) * kLanes;
  static constexpr int row = strips * kLanes, vectors = strips * height, map = vectors * kLanes;
  static constexpr int strip = (height + 2 * kBorder) * kRow, plane = strips * strip;
};

// Width and tail count lanes: a stack is eight times as wide as its samples.
struct StackGrid {
  using Layout = StackLayout;
  static constexpr int tail = kLanes, strip = kLanes;
  int height, width, strips, row, map, plane, vectors;
};

PCDARTS_INLINE StackGrid make_stack_grid(int64_t height, int64_t width) {
  const Grid g = make_grid(height, width);  // but for its planes
  const int plane = (g.height + 2 * kBorder) * StackLayout::row;
  return {g.height, g.width, g.strips, g.row, g.map, plane, g.vectors};
}

// Whether the compiler knows that no strip of a grid is short.
template <class G>
constexpr bool kWholeStrips = false;
template <int size>
constexpr bool kWholeStrips<SquareGrid<size>> = SquareGrid<size>::tail == kLanes;
template <>
constexpr bool kWholeStrips<StackGrid> = true;

// Whether strip s holds fewer than 8 columns.
PCDARTS_INLINE bool is_short(const auto& g, int s) { return s == g.strips - 1 && g.tail < kLanes; }
PCDARTS_INLINE int lanes_of(const auto& g, int s) { return is_short(g, s) ? g.tail : kLanes; }

// Clears the lanes outside the image.
template <class T>
PCDARTS_INLINE void clear_tail(const auto& g, T* map) {
  if (g.tail == kLanes) return;
  const Mask<T> valid = first_lanes<T>(g.tail);
  T* last = map + g.row - kLanes;
  for (int y = 0; y < g.height; ++y, last += g.row) store8(last, keep(valid, load8(last)));
}

// Lane 0 of row y of strip s.
template <class T>
PCDARTS_INLINE T* in_map(const auto& g, T* map, int s, int y) {
  return map + y * g.row + s * kLanes;
}
template <class G, class T>
PCDARTS_INLINE T* in_plane(const G& g, T* plane, int s, int y) {
  using Layout = typename G::Layout;
  return plane + s * g.strip + (y + kBorder) * Layout::row + Layout::left;
}

// A walk through the vectors of a map in memory order.
struct MapCursor {
  int vector, strip, row;
};
PCDARTS_INLINE void advance(const auto& g, MapCursor& at) {
  ++at.vector;
  if (++at.strip == g.strips) at.strip = 0, ++at.row;
}

template <class G, class T>
PCDARTS_INLINE void put(const G& g, T* plane, int s, int y, Vec<T> v) {
  T* own = in_plane(g, plane, s, y);
  store8(own, v);
  if constexpr (kWhole<typename G::Layout>) return;
  if (s > 0) store_low4(own - g.strip + kLanes, v);
  if (s + 1 < g.strips) store_high4(own + g.strip - kBorder, v);
}

// One row of a plane by registers of AVX-512, which hold two strips of the image or one of the
// plane, with its neighbours: from f(strip) -> the two strips from there on.
template <class T, class F>
PCDARTS_INLINE void put_pairs(const auto& g, T* row, F f) {
  Wide<T> before = {}, own = f(0);
  for (int s = 0; s < g.strips; s += 2) {
    const Wide<T> after = s + 2 < g.strips ? f(s + 2) : Wide<T>{};
    T* const to = row + s * g.strip - kBorder;
    store_as(to, sixteen_from<kLanes + kBorder>(before, own));
    store_as(to + g.strip, sixteen_from<kBorder>(own, after));
    before = own, own = after;
  }
}

// Fills a plane from f(strip, row) -> values.
template <class G, class T, class F>
PCDARTS_INLINE void put_plane(const G& g, T* plane, F f) {
  T* row = in_plane(g, plane, 0, 0);
  for (int y = 0; y < g.height; ++y, row += G::Layout::row) {
    if constexpr (kWhole<typename G::Layout>) {
      for (int s = 0; s < g.strips; ++s) store8(row + s * g.strip, f(s, y));
      continue;
    }
    if constexpr (kParts<T> == 2) {
      if (g.strips % 2 == 0) {
        put_pairs(g, row, [&](int s) __attribute__((always_inline)) {
          return join<Wide<T>>(f(s, y), f(s + 1, y));
        });
        continue;
      }
    }
    Vec<T> left = {}, v = f(0, y);
    if (g.strips == 1) {  // its border stays zero
      store8(row, v);
      continue;
    }
    for (int s = 0; s < g.strips; ++s) {
      const Vec<T> right = s + 1 < g.strips ? f(s + 1, y) : Vec<T>{};
      store8(row + s * g.strip - kBorder, middle_lanes(left, v));
      store8(row + s * g.strip + kLanes - kBorder, middle_lanes(v, right));
      left = v, v = right;
    }
  }
}

}  // namespace
}  // namespace pcdarts::PCDARTS_ISA
