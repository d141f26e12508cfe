// Batch statistics of maps, over the samples of one chunk of the batch.
#pragma once
#include "common/batch_norm.h"
#include "common/strips.h"

namespace pcdarts::PCDARTS_ISA {
namespace {

// Sums of (z - pivot) and its square: the pivot, a mean of the channel in the chunk's first sample,
// keeps the variance exact where the mean is large. Vectors of T hold the sums of a few hundred
// elements a lane, or of a row where that is longer, then go to double.
template <class T>
struct Statistics {
  Vec<T> sum, square;
  double total, total_square, count;
  T pivot;
  int pending;
};

constexpr int kPending = 128;  // vectors

template <class T>
PCDARTS_INLINE void flush(Statistics<T>& s) {
  s.total += static_cast<double>(sum_lanes<T>(s.sum));
  s.total_square += static_cast<double>(sum_lanes<T>(s.square));
  s.sum = s.square = Vec<T>{};
  s.pending = 0;
}

// Sums of (z - pivot) and its square in four chains, which hide the latency of an addition.
template <class V>
struct Sums {
  V sum[4], square[4];
};
template <class V>
PCDARTS_INLINE void clear(Sums<V>& s) {
  clear(s.sum), clear(s.square);
}
template <class V, class T>
PCDARTS_INLINE void add(Sums<V>& s, const T* from, V pivot, int chain) {
  const V d = load_as<V>(from) - pivot;
  s.sum[chain] += d, s.square[chain] += d * d;
}
template <class V, class T>
PCDARTS_INLINE void add_to(Statistics<T>& statistics, const Sums<V>& s) {
  statistics.sum += narrow<T>((s.sum[0] + s.sum[1]) + (s.sum[2] + s.sum[3]));
  statistics.square += narrow<T>((s.square[0] + s.square[1]) + (s.square[2] + s.square[3]));
}

// Adds `height` rows of a map of grid g; W as in sum_registers.
template <class W, class T>
PCDARTS_INLINE void add_rows(const auto& g, int height, const T* map, Statistics<T>& statistics) {
  const int vectors = height * g.strips;
  if (statistics.count == 0) {
    Vec<T> sum = {};
    for (int v = 0; v < vectors; ++v) sum += load8(map + v * kLanes);
    statistics.pivot = sum_lanes<T>(sum) / static_cast<T>(height * g.width);
  }
  const Vec<T> pivot = splat(statistics.pivot);
  Sums<Vec<T>> sums;
  clear(sums);
  if (g.tail == kLanes) {
    constexpr int width = kElements<W, T> / kLanes;
    const W pivots = splat_as<W>(statistics.pivot);
    Sums<W> wide;
    clear(wide);
    int v = 0;
    for (; v + 4 * width <= vectors; v += 4 * width) {
      PCDARTS_UNROLL for (int i = 0; i < 4; ++i)
          add(wide, map + (v + i * width) * kLanes, pivots, i);
    }
    for (; v + width <= vectors; v += width) add(wide, map + v * kLanes, pivots, 0);
    add_to(statistics, wide);
    for (; v < vectors; ++v) add(sums, map + v * kLanes, pivot, 0);
  } else {  // lanes outside the image are zero, and so is their pivot
    const Vec<T> pivot_of_last = keep(first_lanes<T>(g.tail), pivot);
    const auto add_row = [&](int y, int chain) __attribute__((always_inline)) {
      const int last = (y + 1) * g.strips - 1;
      for (int v = y * g.strips; v < last; ++v) add(sums, map + v * kLanes, pivot, chain);
      add(sums, map + last * kLanes, pivot_of_last, chain + 1);
    };
    int y = 0;
    for (; y + 2 <= height; y += 2) add_row(y, 0), add_row(y + 1, 2);
    if (y < height) add_row(y, 0);
  }
  add_to(statistics, sums);
  statistics.count += static_cast<double>(height) * g.width;
  statistics.pending += vectors;
  if (statistics.pending >= kPending) flush(statistics);
}

template <class W, class T>
PCDARTS_INLINE void add_map(const auto& g, const T* map, Statistics<T>& statistics) {
  const int rows = g.strips < kPending ? kPending / g.strips : 1;
  for (int y = 0; y < g.height; y += rows) {
    add_rows<W>(g, y + rows < g.height ? rows : g.height - y, map + y * g.row, statistics);
  }
}

template <class T>
PCDARTS_NOINLINE void add_maps(const auto& g, int64_t count, const T* maps, Statistics<T>* to) {
  for (int64_t c = 0; c < count; ++c) add_map<Wide<T>>(g, maps + c * g.map, to[c]);
}

template <class T>
PCDARTS_INLINE Moments moments_of(Statistics<T>& s) {
  if (s.count == 0) return {0, 0, 0};
  flush(s);
  const double shift = s.total / s.count, square = s.total_square - s.total * shift;
  return {s.count, s.pivot + shift, square < 0 ? 0 : square};  // a NaN stays
}

}  // namespace
}  // namespace pcdarts::PCDARTS_ISA
