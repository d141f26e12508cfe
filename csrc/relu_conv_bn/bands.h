// Bands of rows, small enough for the input's channels to stay in the first-level cache, but moved
// to and from memory many at a time, so that a channel is read in long runs.
#pragma once
#include "common/channels.h"
#include "common/chunks.h"
#include "common/pointwise.h"
#include "common/statistics.h"
#include "relu_conv_bn/cpu.h"

namespace pcdarts::PCDARTS_ISA {
namespace {

constexpr int kBandVectors = 8;  // 64 pixels: 64 input channels of float take 16 KiB
constexpr int kBands = 16;

PCDARTS_INLINE int64_t band_rows(const ReluConvBn& p) {
  const Grid row = make_grid(1, p.width);
  return row.vectors >= kBandVectors ? 1 : kBandVectors / row.vectors;
}

// A few bands that are moved together; all but the last have the same number of rows.
struct Bands {
  int count;
  int64_t first_row[kBands];
  Grid grid[kBands];
};

// f(bands) for all of an output channel.
template <class F>
PCDARTS_INLINE void for_bands(const ReluConvBn& p, F f) {
  const int64_t rows = band_rows(p);
  for (int64_t y = 0; y < p.height;) {
    Bands bands = {};
    for (bands.count = 0; bands.count < kBands && y < p.height; ++bands.count, y += rows) {
      bands.first_row[bands.count] = y;
      bands.grid[bands.count] = make_grid(p.height - y < rows ? p.height - y : rows, p.width);
    }
    f(bands);
  }
}

// f(first, count) for the bands of equal size, then for the last where it is smaller.
template <class F>
PCDARTS_INLINE void for_equal_bands(const Bands& bands, F f) {
  const int last = bands.count - 1;
  const bool equal = bands.grid[last].height == bands.grid[0].height;
  f(0, equal ? bands.count : last);
  if (!equal) f(last, 1);
}

// The outputs of one of the two weight tensors; stride 1 has only the first.
struct Half {
  int64_t first, outputs;
};
PCDARTS_INLINE Half half_of(const ReluConvBn& p, int half) {
  return half == 0 ? Half{0, p.even_outputs}
                   : Half{p.even_outputs, p.out_channels - p.even_outputs};
}

template <class T>
struct Scratch {
  T *t, *dz, *dt;             // maps of every band: [in] of each half, [out], [in] of each half
  int64_t t_band, dz_band;    // elements of one band in t and dt, and in dz
  T* map;                     // one channel
  Statistics<T>* statistics;  // [out]
  Vec<T>* dw;                 // [out, in], lane by lane
};

template <class T>
PCDARTS_INLINE Scratch<T> scratch_of(const ReluConvBn& p, bool backward) {
  return in_workspace(Workspace::scratch, [&](Pieces& pieces) {
    const Grid band = make_grid(band_rows(p), p.width);
    Scratch<T> s = {};
    // one map more than there are: bands a power of two apart would share cache sets
    s.t_band = (p.stride * p.in_channels + 1) * band.map,
    s.dz_band = (p.out_channels + 1) * band.map;
    s.t = take<T>(pieces, kBands * s.t_band);
    s.dz = take<T>(pieces, kBands * s.dz_band);
    s.dt = take<T>(pieces, backward ? kBands * s.t_band : 0);
    s.map = take<T>(pieces, make_grid(p.height, p.width).map);
    s.statistics = take<Statistics<T>>(pieces, backward ? 0 : p.out_channels);
    s.dw = take<Vec<T>>(pieces, backward ? p.out_channels * p.in_channels : 0);
    return s;
  });
}

template <class V>
PCDARTS_INLINE V activation(const ReluConvBn& p, V v) {
  return p.linear ? v : relu(v);
}

// The gradient of a = activation(x), from a.
template <class V>
PCDARTS_INLINE V through_activation(const ReluConvBn& p, V a, V gradient) {
  return p.linear ? gradient : through_relu(a, gradient);
}

// t = relu(x) of the bands: maps [in], and at stride 2 a second set from the other phase.
template <int stride, class S>
PCDARTS_NOINLINE void load_bands(const ReluConvBn& p, const Bands& bands, const S* x,
                                 const Scratch<Accumulate<S>>& scratch) {
  using T = Accumulate<S>;
  const int64_t channel = p.height * p.width * stride * stride;
  for (int64_t c = 0; c < p.in_channels; ++c, x += channel) {
    for (int k = 0; k < bands.count; ++k) {
      const Grid& g = bands.grid[k];
      T* t = scratch.t + k * scratch.t_band + c * g.map;
      const S* from = x + stride * bands.first_row[k] * stride * p.width;
      if constexpr (stride == 1) {
        const T* const map = as_map(g, from, t);
        for_registers<T>(g.vectors, [&]<class V>(int at) __attribute__((always_inline)) {
          store_as(t + at, activation(p, load_as<V>(map + at)));
        });
      } else {
        read_channel<2>(g, from, [&](int phase, int s, int row, Vec<T> v) {
          if (phase == 0) store8(in_map(g, t, s, row), activation(p, v));
          if (phase == 3) store8(in_map(g, t + p.in_channels * g.map, s, row), activation(p, v));
        });
      }
    }
  }
}

// dz of the bands, as maps [out]: out stands for the normalised z, whose mean is 0 and rstd 1.
template <class S>
PCDARTS_NOINLINE void load_dz(const ReluConvBn& p, const Bands& bands, const NormGradient* norm,
                              const S* grad, const S* out, const Scratch<Accumulate<S>>& scratch) {
  using T = Accumulate<S>;
  const int64_t size = p.height * p.width;
  const bool normed = takes_statistics(p);  // else out is not read: 0 times infinity is NaN
  for (int64_t o = 0; o < p.out_channels; ++o, grad += size, out += size) {
    const Vec<T> a = splat(static_cast<T>(norm[o].upstream)),
                 b = splat(static_cast<T>(norm[o].own)),
                 d = splat(static_cast<T>(norm[o].constant));
    for (int k = 0; k < bands.count; ++k) {
      const Grid& g = bands.grid[k];
      T* dz = scratch.dz + k * scratch.dz_band + o * g.map;
      for (int y = 0; y < g.height; ++y) {
        for (int s = 0; s < g.strips; ++s) {
          const int lanes = lanes_of(g, s);
          const int64_t at = (bands.first_row[k] + y) * g.width + s * kLanes;
          Vec<T> v = a * load_part(grad + at, lanes) + d;
          if (normed) v += b * load_part(out + at, lanes);
          store8(in_map(g, dz, s, y), v);
        }
      }
      clear_tail(g, dz);
    }
  }
}

// Writes the gradient of the bands of x: dt where relu let x through.
template <int stride, class S>
PCDARTS_NOINLINE void store_bands(const ReluConvBn& p, const Bands& bands,
                                  const Scratch<Accumulate<S>>& scratch, S* x) {
  using T = Accumulate<S>;
  const int64_t channel = p.height * p.width * stride * stride;
  for (int64_t c = 0; c < p.in_channels; ++c, x += channel) {
    for (int k = 0; k < bands.count; ++k) {
      const Grid& g = bands.grid[k];
      const int64_t band = k * scratch.t_band + c * g.map;
      const T* const t = scratch.t + band;
      T* const dt = scratch.dt + band;
      S* to = x + stride * bands.first_row[k] * stride * p.width;
      if constexpr (stride == 1) {
        T* const map = as_map_to_write(g, to, dt);
        for_registers<T>(g.vectors, [&]<class V>(int at) __attribute__((always_inline)) {
          store_as(map + at, through_activation(p, load_as<V>(t + at), load_as<V>(dt + at)));
        });
        if (map == dt) write_map(g, map, to);
      } else {
        write_channel<2>(g, to, [&](int phase, int s, int row) {
          if (phase == 1 || phase == 2) return Vec<T>{};
          const int64_t half = phase == 3 ? p.in_channels * g.map : 0;
          const Vec<T> r = load8(in_map(g, t + half, s, row));
          return through_activation(p, r, load8(in_map(g, dt + half, s, row)));
        });
      }
    }
  }
}

}  // namespace
}  // namespace pcdarts::PCDARTS_ISA
