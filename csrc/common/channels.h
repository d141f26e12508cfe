// Channels as they lie in tensors, row-major and without lanes to spare: read and written by
// vectors, as maps in place or converted, and by the 2x2 windows and phases of stride 2.
#pragma once
#include "common/strips.h"

namespace pcdarts::PCDARTS_ISA {
namespace {

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
