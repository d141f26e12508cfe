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

template <class S>
PCDARTS_INLINE Vec<Accumulate<S>> load_part(const S* p, int count) {
  return count == kLanes ? load8(p) : load_some(p, count);
}
template <class S>
PCDARTS_INLINE void store_part(S* p, Vec<Accumulate<S>> v, int count) {
  if (count == kLanes) {
    store8(p, v);
  } else {
    store_some(p, v, count);
  }
}

template <class T>
PCDARTS_INLINE void fill(T* p, int64_t count, T value) {
  for (int64_t i = 0; i < count; ++i) p[i] = value;
}

// The 2x2 windows under strip s of row y: four phases of a row-major channel [2H, 2W].
template <class T>
struct Windows {
  Vec<T> phase[4];
};
struct WindowsPlace {
  int64_t at, width;  // first element, elements of an input row
  int low, high;      // lanes of a row's two vectors
};
PCDARTS_INLINE WindowsPlace windows_place(const auto& g, int s, int y) {
  const int count = 2 * lanes_of(g, s), low = count < kLanes ? count : kLanes;
  const int64_t width = int64_t{2} * g.width;
  return {2 * y * width + 2 * s * kLanes, width, low, count - low};
}
template <class G, class S>
PCDARTS_INLINE Windows<Accumulate<S>> load_windows(const G& g, const S* x, int s, int y) {
  constexpr bool apart = kWhole<typename G::Layout>;  // even and odd columns already are
  const WindowsPlace place = windows_place(g, s, y);
  Windows<Accumulate<S>> w;
  PCDARTS_UNROLL for (int row = 0; row < 2; ++row) {
    const S* p = x + place.at + row * place.width;
    const auto a = load_part(p, place.low), b = load_part(p + place.low, place.high);
    w.phase[2 * row] = apart ? a : even_lanes(a, b);
    w.phase[2 * row + 1] = apart ? b : odd_lanes(a, b);
  }
  return w;
}
template <class G, class S>
PCDARTS_INLINE void store_windows(const G& g, S* x, int s, int y, const Windows<Accumulate<S>>& w) {
  constexpr bool apart = kWhole<typename G::Layout>;
  const WindowsPlace place = windows_place(g, s, y);
  PCDARTS_UNROLL for (int row = 0; row < 2; ++row) {
    S* p = x + place.at + row * place.width;
    const auto &even = w.phase[2 * row], &odd = w.phase[2 * row + 1];
    store_part(p, apart ? even : interleave_low(even, odd), place.low);
    store_part(p + place.low, apart ? odd : interleave_high(even, odd), place.high);
  }
}
template <class T>
PCDARTS_INLINE Vec<T> largest_of(const Windows<T>& w) {
  return maximum(maximum(w.phase[0], w.phase[1]), maximum(w.phase[2], w.phase[3]));
}

// Reads a row-major channel x [stride * H, stride * W]: f(phase, strip, row, values).
template <int stride, class S, class F>
PCDARTS_INLINE void read_channel(const auto& g, const S* x, F f) {
  for (int s = 0; s < g.strips; ++s) {
    for (int y = 0; y < g.height; ++y) {
      if constexpr (stride == 1) {
        f(0, s, y, load_part(x + int64_t{y} * g.width + s * kLanes, lanes_of(g, s)));
      } else {
        const auto w = load_windows(g, x, s, y);
        PCDARTS_UNROLL for (int phase = 0; phase < 4; ++phase) f(phase, s, y, w.phase[phase]);
      }
    }
  }
}

// Writes a row-major channel [stride * H, stride * W] from f(phase, strip, row) -> values.
template <int stride, class S, class F>
PCDARTS_INLINE void write_channel(const auto& g, S* x, F f) {
  for (int s = 0; s < g.strips; ++s) {
    for (int y = 0; y < g.height; ++y) {
      if constexpr (stride == 1) {
        store_part(x + int64_t{y} * g.width + s * kLanes, f(0, s, y), lanes_of(g, s));
      } else {
        Windows<Accumulate<S>> w;
        PCDARTS_UNROLL for (int phase = 0; phase < 4; ++phase) w.phase[phase] = f(phase, s, y);
        store_windows(g, x, s, y, w);
      }
    }
  }
}

// The same for two channels at once, the values of both in one register.
template <int stride, class T, class S, class F>
PCDARTS_INLINE void write_channels(const auto& g, S* x, S* beside, F f) {
  S* const to[2] = {x, beside};
  for (int s = 0; s < g.strips; ++s) {
    for (int y = 0; y < g.height; ++y) {
      if constexpr (stride == 1) {
        const int64_t at = int64_t{y} * g.width + s * kLanes;
        const Wide<T> v = f(0, s, y);
        store_part(to[0] + at, part_of<0, T>(v), lanes_of(g, s));
        if (kParts<T> == 2) store_part(to[1] + at, part_of<kParts<T> - 1, T>(v), lanes_of(g, s));
      } else {
        Windows<T> w[2];
        PCDARTS_UNROLL for (int phase = 0; phase < 4; ++phase) {
          const Wide<T> v = f(phase, s, y);
          w[0].phase[phase] = part_of<0, T>(v);
          w[1].phase[phase] = part_of<kParts<T> - 1, T>(v);
        }
        for (int part = 0; part < kParts<T>; ++part) store_windows(g, to[part], s, y, w[part]);
      }
    }
  }
}

// The phases of a channel [stride * H, stride * W] as maps, with `outside` in the lanes beyond the
// image: in place where a dense channel is a map already, else converted into `spare`.
template <int stride, class S, class T>
PCDARTS_INLINE const T* as_maps(const auto& g, const S* x, T* spare, T outside) {
  if constexpr (stride == 1 && sizeof(S) == sizeof(T)) {
    if (g.tail == kLanes) return x;
  }
  const Mask<T> valid = first_lanes<T>(g.tail);
  read_channel<stride>(g, x, [&](int phase, int s, int y, Vec<T> v) {
    store8(in_map(g, spare + phase * g.map, s, y), is_short(g, s) ? valid ? v : splat(outside) : v);
  });
  return spare;
}
template <class S, class T>
PCDARTS_INLINE const T* as_map(const auto& g, const S* x, T* spare) {
  return as_maps<1>(g, x, spare, T{0});
}

// Maps of a channel and of the one beside it, or of two that share a register.
template <class T>
struct Channels {
  T* map;
  int64_t apart;  // elements between the two
};

// as_maps of two channels; `spare` has room for all phases of both.
template <int stride, class S, class T>
PCDARTS_INLINE Channels<const T> as_channels(const auto& g, const S* x, const S* beside, T* spare,
                                             T outside) {
  const T* first = as_maps<stride>(g, x, spare, outside);
  if (kParts<T> == 1 || beside == x) return {first, 0};
  return {first, as_maps<stride>(g, beside, spare + stride * stride * g.map, outside) - first};
}

// Where to build a channel that will be dense: in place where it is a map, else in `spare`.
template <class S, class T>
PCDARTS_INLINE T* as_map_to_write(const auto& g, S* x, T* spare) {
  if constexpr (sizeof(S) == sizeof(T)) {
    if (g.tail == kLanes) return x;
  }
  return spare;
}

// Writes a dense channel from a map.
template <class S, class T>
PCDARTS_INLINE void write_map(const auto& g, const T* map, S* x) {
  write_channel<1>(g, x, [&](int, int s, int y) { return load8(in_map(g, map, s, y)); });
}

// f(first element, lanes, chain) for all vectors of a dense array; the last may have fewer than 8
// lanes, and `chain` counts 0..3 round and round, for sums that do not wait for each other.
template <class F>
PCDARTS_INLINE void for_vectors(int64_t count, F f) {
  int64_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
    f(i, kLanes, 0), f(i + kLanes, kLanes, 1);
    f(i + 2 * kLanes, kLanes, 2), f(i + 3 * kLanes, kLanes, 3);
  }
  for (; i + kLanes <= count; i += kLanes) f(i, kLanes, 0);
  if (i < count) f(i, static_cast<int>(count - i), 0);
}

}  // namespace
}  // namespace pcdarts::PCDARTS_ISA
