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

// Adds `height` rows of a map of grid g.
template <class T>
PCDARTS_INLINE void add_rows(const auto& g, int height, const T* map, Statistics<T>& statistics) {
  const int vectors = height * g.strips;
  if (statistics.count == 0) {
    Vec<T> sum = {};
    for (int v = 0; v < vectors; ++v) sum += load8(map + v * kLanes);
    statistics.pivot = sum_lanes<T>(sum) / static_cast<T>(height * g.width);
  }
  const Vec<T> pivot = splat(statistics.pivot);
  Vec<T> sum[4], square[4];  // four chains hide the latency of an addition
  clear(sum), clear(square);
  const auto add = [&](int v, int chain, Vec<T> from) __attribute__((always_inline)) {
    const Vec<T> d = load8(map + v * kLanes) - from;
    sum[chain] += d, square[chain] += d * d;
  };
  if (g.tail == kLanes) {
    int v = 0;
    for (; v + 4 <= vectors; v += 4) {
      PCDARTS_UNROLL for (int i = 0; i < 4; ++i) add(v + i, i, pivot);
    }
    for (; v < vectors; ++v) add(v, 0, pivot);
  } else {  // lanes outside the image are zero, and so is their pivot
    const Vec<T> pivot_of_last = keep(first_lanes<T>(g.tail), pivot);
    const auto add_row = [&](int y, int chain) __attribute__((always_inline)) {
      const int last = (y + 1) * g.strips - 1;
      for (int v = y * g.strips; v < last; ++v) add(v, chain, pivot);
      add(last, chain + 1, pivot_of_last);
    };
    int y = 0;
    for (; y + 2 <= height; y += 2) add_row(y, 0), add_row(y + 1, 2);
    if (y < height) add_row(y, 0);
  }
  statistics.sum += (sum[0] + sum[1]) + (sum[2] + sum[3]);
  statistics.square += (square[0] + square[1]) + (square[2] + square[3]);
  statistics.count += static_cast<double>(height) * g.width;
  statistics.pending += vectors;
  if (statistics.pending >= kPending) flush(statistics);
}

template <class T>
PCDARTS_INLINE void add_map(const auto& g, const T* map, Statistics<T>& statistics) {
  const int rows = g.strips < kPending ? kPending / g.strips : 1;
  for (int y = 0; y < g.height; y += rows) {
    add_rows(g, y + rows < g.height ? rows : g.height - y, map + y * g.row, statistics);
  }
}

template <class T>
PCDARTS_NOINLINE void add_maps(const auto& g, int64_t count, const T* maps, Statistics<T>* to) {
  for (int64_t c = 0; c < count; ++c) add_map(g, maps + c * g.map, to[c]);
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
