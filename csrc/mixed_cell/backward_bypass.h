// Backward of the channels that pass a mixed operation by: their gradient and beta's share of them,
// from one read of the nodes' gradients.
#pragma once
#include "mixed_cell/backward.h"

namespace pcdarts::PCDARTS_ISA {
namespace {

// One edge's share of a bypass channel's gradient: to (+)= beta * gradient, and where `dot` is
// asked for the sum of gradient * x.
template <bool dot, bool write, class S>
PCDARTS_INLINE double bypass_edge(int64_t size, const S* gradient, const S* x, Accumulate<S> beta,
                                  const S* add, S* to) {
  using T = Accumulate<S>;
  Vec<T> sum[4];
  clear(sum);
  const Vec<T> weight = splat(beta);
  for_vectors(size, [&](int64_t at, int lanes, int chain) __attribute__((always_inline)) {
    const Vec<T> v = load_part(gradient + at, lanes);
    if constexpr (dot) sum[chain] += load_part(x + at, lanes) * v;
    if constexpr (write) {
      const Vec<T> before = add != nullptr ? load_part(add + at, lanes) : Vec<T>{};
      store_part(to + at, before + weight * v, lanes);
    }
  });
  return static_cast<double>(sum_lanes<T>((sum[0] + sum[1]) + (sum[2] + sum[3])));
}

// The stride-2 half of bypass_gradient, one channel: the first maximum of every 2x2 window takes
// the gradient.
template <class S>
PCDARTS_INLINE void pooled_gradient(const MixedCell& p, const State<S>& state,
                                    const SourceGradient<S>& grad,
                                    const BackwardScratch<Accumulate<S>>& scratch, int64_t b,
                                    int64_t q, S* to) {
  using T = Accumulate<S>;
  const Grid& g = state.grid;
  T* const maps = scratch.dr;
  read_channel<2>(g, channel_of(state, b, p.source[q]), [&](int phase, int s, int y, Vec<T> v) {
    store8(in_map(g, maps + phase * g.map, s, y), v);
  });
  Vec<T> dot[kMaxStates];
  for (int e = 0; e < state.edges; ++e) dot[e] = Vec<T>{};
  for (int y = 0; y < g.height; ++y) {
    for (int s = 0; s < g.strips; ++s) {
      T* const at = in_map(g, maps, s, y);
      Vec<T> largest = load8(at);
      PCDARTS_UNROLL for (int i = 1; i < 4; ++i) {
        largest = maximum<T>(largest, load8(at + i * g.map));
      }
      const int lanes = is_short(g, s) ? g.tail : kLanes;
      Vec<T> gradient = {};
      for (int e = 0; e < state.edges; ++e) {
        const S* from = node_channel(p, grad.node[e], b, q) + int64_t{y} * g.width + s * kLanes;
        const Vec<T> v = load_part(from, lanes);
        dot[e] += v * largest, gradient += splat(*state.edge[e].beta) * v;
      }
      Mask<T> open = first_lanes<T>(kLanes);
      PCDARTS_UNROLL for (int i = 0; i < 4; ++i) {
        const Vec<T> v = load8(at + i * g.map);
        const Mask<T> wins = open & ((v == largest) | (v != v));
        store8(at + i * g.map, keep<T>(wins, gradient));
        open &= ~wins;
      }
    }
  }
  const int64_t edge_sums = sums_of_edge(p, state.plan);
  for (int e = 0; e < state.edges; ++e) {
    scratch.sums[(e + 1) * edge_sums - 1].total += static_cast<double>(sum_lanes<T>(dot[e]));
  }
  if (to == nullptr) return;
  write_channel<2>(
      g, to, [&](int phase, int s, int y) { return load8(in_map(g, maps + phase * g.map, s, y)); });
}

// The bypass channels of one sample: their gradient and <Gb, xb> of every edge.
template <int stride, class S>
PCDARTS_NOINLINE void bypass_gradient(const MixedCell& p, const State<S>& state,
                                      const SourceGradient<S>& grad,
                                      const BackwardScratch<Accumulate<S>>& scratch, int64_t b) {
  using T = Accumulate<S>;
  const int64_t edge_sums = sums_of_edge(p, state.plan);
  const bool write = grad.grad_x != nullptr;
  for (int64_t q = p.sampled; q < p.channels; ++q) {
    const int64_t channel = p.source[q] * state.channel;
    const S* x = channel_of(state, b, p.source[q]);
    S* to = write ? grad.grad_x + b * grad.grad_sample + channel : nullptr;
    const S* add = grad.add == nullptr ? nullptr : grad.add + b * grad.add_sample + channel;
    if constexpr (stride == 2) {
      pooled_gradient(p, state, grad, scratch, b, q, to);
      continue;
    }
    for (int e = 0; e < state.edges; ++e, add = to) {
      const S* gradient = node_channel(p, grad.node[e], b, q);
      const T beta = *state.edge[e].beta;
      double dot = 0;
      if (grad.need_beta && write) {
        dot = bypass_edge<true, true>(state.channel, gradient, x, beta, add, to);
      } else if (write) {
        bypass_edge<false, true>(state.channel, gradient, x, beta, add, to);
      } else {
        dot = bypass_edge<true, false>(state.channel, gradient, x, beta, add, to);
      }
      scratch.sums[(e + 1) * edge_sums - 1].total += dot;
    }
  }
}

}  // namespace
}  // namespace pcdarts::PCDARTS_ISA
