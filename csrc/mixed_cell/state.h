// What forward and backward share: a state with the edges that leave it, and the passes that fill
// planes and convolve them.
#pragma once
#include "common/channels.h"
#include "common/chunks.h"
#include "common/pointwise.h"
#include "common/prefetch.h"
#include "common/statistics.h"
#include "mixed_cell/cpu.h"
#include "mixed_cell/depthwise.h"
#include "mixed_cell/pool.h"

namespace pcdarts::PCDARTS_ISA {
namespace {

// An edge that leaves a state. Slots and units count from the edge's own first one.
template <class T>
struct OutEdge {
  int row, target;
  const T* const* weights;
  const T *alpha, *beta;      // [primitives], [1]
  T *mean, *variance, *rstd;  // [slots, sampled]
  T* z;                       // [B, units, sampled] maps
};

template <class S, class G>
struct State {
  using T = Accumulate<S>;
  int stride, phases;
  const S* x;  // sample b, channel c: x + b * sample + c * channel
  int64_t sample, channel;
  G grid;  // of the edges' outputs, and of every phase
  EdgePlan plan;
  Taps first[kMaxPrimitives], second[kMaxPrimitives];  // of every branch's stages
  int edges;
  OutEdge<T> edge[kMaxStates];
};

template <class S, class G>
PCDARTS_INLINE const S* channel_of(const State<S, G>& state, int64_t b, int64_t c) {
  return state.x + b * state.sample + c * state.channel;
}

template <class S, class G>
PCDARTS_INLINE const OutEdge<Accumulate<S>>& edge_into(const State<S, G>& state, int target) {
  return state.edge[target - state.edge[0].target];
}

PCDARTS_INLINE int64_t unit_size(const MixedCell& p, const auto& g) { return p.sampled * g.map; }

template <class T>
PCDARTS_INLINE T* unit_of(const MixedCell& p, const auto& g, const EdgePlan& plan, T* z, int64_t b,
                          int unit) {
  return z + (b * plan.units + unit) * unit_size(p, g);
}

template <class T>
PCDARTS_INLINE T rstd_of(const MixedCell& p, T variance) {
  return static_cast<T>(norm_rstd(static_cast<double>(variance), p.eps));
}

// planes = relu of the sampled channels of one sample, all phases of a channel side by side.
template <int stride, class S, class G>
PCDARTS_NOINLINE void load_state(const MixedCell& p, const State<S, G>& state, int64_t b,
                                 Accumulate<S>* planes) {
  using T = Accumulate<S>;
  const auto& g = state.grid;
  for (int64_t c = 0; c < p.sampled; ++c) {
    T* channel = planes + c * stride * stride * g.plane;
    const S* x = channel_of(state, b, p.source[c]);
    prefetch<false>(x, state.sample, state.channel);
    if constexpr (stride == 1) {
      put_plane(g, channel, [&](int s, int y) __attribute__((always_inline)) {
        const S* at = x + int64_t{y} * g.width + s * kLanes;
        return relu(load_part(at, lanes_of(g, s)));
      });
    } else {
      read_channel<2>(g, x, [&](int phase, int s, int y, Vec<T> v) {
        put(g, channel + phase * g.plane, s, y, relu(v));
      });
    }
  }
}

// planes = relu((z - mean) * rstd): the middle of a separable convolution.
template <class T>
PCDARTS_NOINLINE void load_middle(const MixedCell& p, const auto& g, const T* z, const T* mean,
                                  const T* rstd, T* planes) {
  const Mask<T> valid = first_lanes<T>(g.tail);
  for (int64_t c = 0; c < p.sampled; ++c) {
    const Vec<T> m = splat(mean[c]), scale = splat(rstd[c]);
    put_plane(g, planes + c * g.plane, [&](int s, int y) __attribute__((always_inline)) {
      const Vec<T> v = relu((load8(in_map(g, z + c * g.map, s, y)) - m) * scale);
      return is_short(g, s) ? keep(valid, v) : v;
    });
  }
}

// z from the depthwise output t: forward and backward call the same function, for the same bits.
template <class T>
PCDARTS_INLINE void pointwise_maps(const MixedCell& p, const auto& g, const T* t, const T* w,
                                   T* z) {
  const int channels = static_cast<int>(p.sampled);
  pointwise_to_maps(g, t, channels, Matrix<T>{w, channels, 1}, channels, z, g.map);
}

// z = pointwise(depthwise(planes)); t [sampled] maps is left holding the depthwise output.
template <class T>
PCDARTS_INLINE void convolve(const MixedCell& p, const auto& g, const Taps& taps, int phases,
                             const T* planes, const T* const* weights, T* t, T* z) {
  depthwise(g, taps, static_cast<int>(p.sampled), phases, planes, weights[0], t);
  pointwise_maps(p, g, t, weights[1], z);
}

// t = one phase of every channel, as maps.
template <class T>
PCDARTS_NOINLINE void phase_to_maps(const MixedCell& p, const auto& g, const T* planes, int phase,
                                    T* t) {
  for (int64_t c = 0; c < p.sampled; ++c) {
    for (int y = 0; y < g.height; ++y) {
      for (int s = 0; s < g.strips; ++s) {
        store8(in_map(g, t + c * g.map, s, y),
               load8(in_plane(g, planes + (4 * c + phase) * g.plane, s, y)));
      }
    }
  }
}

// z of a stride-2 skip: a pointwise convolution of each half.
template <class T>
PCDARTS_INLINE void reduce_skip(const MixedCell& p, const auto& g, const T* planes,
                                const T* const* weights, T* t, T* z) {
  const int channels = static_cast<int>(p.sampled);
  for (int half = 0; half < 2; ++half) {
    const SkipHalf h = skip_half(p.sampled, half);
    if (h.outputs == 0) continue;
    phase_to_maps(p, g, planes, h.phase, t);
    pointwise_to_maps(g, t, channels, Matrix<T>{weights[half], channels, 1}, h.outputs,
                      z + int64_t{h.first} * g.map, g.map);
  }
}

// First-stage convolutions of one branch.
template <class T>
PCDARTS_INLINE void first_stage(const MixedCell& p, const auto& g, const Branch& branch,
                                const Taps& taps, int phases, const T* planes,
                                const T* const* weights, T* t, T* z) {
  if (branch.primitive.kind == Kind::skip) return reduce_skip(p, g, planes, weights, t, z);
  convolve(p, g, taps, phases, planes, weights, t, z);
}

// Second stage of a separable convolution, from z of its first, in whose place z may lie.
template <class T>
PCDARTS_INLINE void second_stage(const MixedCell& p, const auto& g, const Taps& taps,
                                 const T* z_first, const T* mean, const T* rstd, T* planes,
                                 const T* const* weights, T* t, T* z) {
  load_middle(p, g, z_first, mean, rstd, planes);
  convolve(p, g, taps, 1, planes, weights + 2, t, z);
}

}  // namespace
}  // namespace pcdarts::PCDARTS_ISA
