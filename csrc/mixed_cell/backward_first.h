// Pass A': through the first stage of all edges to the weights and to the state.
#pragma once
#include "mixed_cell/backward_convolution.h"

namespace pcdarts::PCDARTS_ISA {
namespace {

// Sets the weights of every sampled channel, the same in every sample.
template <class S, class G>
PCDARTS_INLINE void set_state_terms(const MixedCell& p, const State<S, G>& state,
                                    const SourceGradient<S>& grad,
                                    StateTerms<Accumulate<S>>* terms) {
  using T = Accumulate<S>;
  const EdgePlan& plan = state.plan;
  for (int64_t c = 0; c < p.sampled; ++c) {
    terms[c] = StateTerms<T>{};
    for (int e = 0; e < state.edges; ++e) {
      for (int i = 0; i < plan.branches; ++i) {
        const Branch& branch = plan.branch[i];
        const Kind kind = branch.primitive.kind;
        if (is_plain_skip(kind, state.stride)) {
          terms[c].skip[e] += *state.edge[e].beta * state.edge[e].alpha[branch.column];
          terms[c].skips = true;
        } else if (is_pool(kind)) {
          const int which = kind == Kind::avg_pool;
          const NormGradient& norm = norm_of(p, state, grad, e, branch.slot)[c];
          terms[c].upstream[which][e] += static_cast<T>(norm.upstream);
          terms[c].own[which] += static_cast<T>(norm.own);
          terms[c].constant[which] += static_cast<T>(norm.constant);
        }
      }
    }
  }
}

// Writes one channel of the state's gradient from f(phase, strip, row), plus grad.add.
template <int stride, class S, class G, class F>
PCDARTS_INLINE void write_gradient(const State<S, G>& state, const SourceGradient<S>& grad,
                                   int64_t b, int64_t channel, F f) {
  const auto& g = state.grid;
  S* to = grad.grad_x + b * grad.grad_sample + channel * state.channel;
  prefetch<true>(to, grad.grad_sample, state.channel);
  if (grad.add == nullptr) return write_channel<stride>(g, to, f);
  const S* add = grad.add + b * grad.add_sample + channel * state.channel;
  if constexpr (stride == 1) {  // only nodes have something to add, and their edges have stride 1
    write_channel<1>(g, to, [&](int phase, int s, int y) {
      const S* at = add + int64_t{y} * g.width + s * kLanes;
      return load_part(at, lanes_of(g, s)) + f(phase, s, y);
    });
  }
}

// Writes the gradient of one sampled channel: dr through the ReLU, plus what skips and pools send
// back.
template <int stride, class S, class G>
PCDARTS_NOINLINE void finish_channel(const MixedCell& p, const State<S, G>& state,
                                     const SourceGradient<S>& grad,
                                     const BackwardScratch<Accumulate<S>>& scratch, int64_t b,
                                     int64_t c) {
  using T = Accumulate<S>;
  const auto& g = state.grid;
  const T* planes = scratch.planes + c * state.phases * g.plane;
  T* dr = scratch.dr + c * state.phases * g.map;
  const StateTerms<T>& terms = scratch.terms[c];
  const T** gradient = scratch.gradient;
  for (int e = 0; e < state.edges; ++e) {
    gradient[e] = as_map(g, node_channel(p, grad.node[e], b, c), scratch.g + int64_t{e} * g.map);
  }
  const auto weighted = [&](const T* weight, int s, int y, Vec<T> sum)
                            __attribute__((always_inline)) {
                              for (int e = 0; e < state.edges; ++e) {
                                sum += splat(weight[e]) * load8(in_map(g, gradient[e], s, y));
                              }
                              return sum;
                            };
  const auto past_pools = [&](int phase, int s, int y) __attribute__((always_inline)) {
    const Vec<T> r = load8(in_plane(g, planes + phase * g.plane, s, y));
    const Vec<T> v = through_relu(r, load8(in_map(g, dr + phase * g.map, s, y)));
    return terms.skips ? weighted(terms.skip, s, y, v) : v;  // at stride 1
  };
  if (!has_pools(state.plan)) {
    return write_gradient<stride>(state, grad, b, p.source[c], past_pools);
  }

  const T* raw =
      as_maps<stride>(g, channel_of(state, b, p.source[c]), scratch.pool.raw, kLowest<T>);
  const auto pool_upstream = [&](int which, int s, int y, Vec<T> value)
                                 __attribute__((always_inline)) {
                                   Vec<T> sum = splat(terms.constant[which]);
                                   // 0 in eval mode and of a pool that no edge has; times infinity
                                   // it would be NaN
                                   if (terms.own[which] != 0)
                                     sum += splat(terms.own[which]) * value;
                                   return weighted(terms.upstream[which], s, y, sum);
                                 };
  pool_gradient<stride>(
      g, raw, scratch.pool,
      [&](int s, int y, Vec<T> largest) { return pool_upstream(0, s, y, largest); },
      [&](int s, int y, Vec<T> average) { return pool_upstream(1, s, y, average); }, past_pools,
      dr);
  write_gradient<stride>(state, grad, b, p.source[c], [&](int phase, int s, int y) {
    return with_neighbours<stride>(g, scratch.pool, dr, phase, s, y);
  });
}

template <int stride, class S, class G>
PCDARTS_NOINLINE void bypass_gradient(const MixedCell& p, const State<S, G>& state,
                                      const SourceGradient<S>& grad, int64_t b, int64_t q) {
  using T = Accumulate<S>;
  const auto& g = state.grid;
  const S* from[kMaxStates];
  Vec<T> beta[kMaxStates];
  for (int e = 0; e < state.edges; ++e) {
    from[e] = node_channel(p, grad.node[e], b, q);
    prefetch<false>(from[e], grad.node[e].sample, p.height * p.width);
    beta[e] = splat(*state.edge[e].beta);
  }
  const auto upstream = [&](int64_t at, int lanes, Vec<T> sum) __attribute__((always_inline)) {
    for (int e = 0; e < state.edges; ++e) sum += beta[e] * load_part(from[e] + at, lanes);
    return sum;
  };
  if constexpr (stride == 1) {
    const int64_t channel = p.source[q] * state.channel;
    S* to = grad.grad_x + b * grad.grad_sample + channel;
    prefetch<true>(to, grad.grad_sample, state.channel);
    const bool adds = grad.add != nullptr;
    const S* add = adds ? grad.add + b * grad.add_sample + channel : nullptr;
    if (adds) prefetch<false>(add, grad.add_sample, state.channel);
    for_vectors(state.channel, [&](int64_t at, int lanes, int) __attribute__((always_inline)) {
      const Vec<T> sum = adds ? load_part(add + at, lanes) : Vec<T>{};
      store_part(to + at, upstream(at, lanes, sum), lanes);
    });
  } else {
    const S* x = channel_of(state, b, p.source[q]);
    S* to = grad.grad_x + b * grad.grad_sample + p.source[q] * state.channel;
    prefetch<true>(to, grad.grad_sample, state.channel);
    for (int y = 0; y < g.height; ++y) {
      for (int s = 0; s < g.strips; ++s) {
        Windows<T> w = load_windows(g, x, s, y);
        const Vec<T> largest = largest_of(w);
        const int lanes = lanes_of(g, s);
        const Vec<T> gradient = upstream(int64_t{y} * g.width + s * kLanes, lanes, Vec<T>{});
        // The window's first maximum takes the gradient, or its last NaN (common/window.h).
        Mask<T> open = first_lanes<T>(kLanes), nan_behind = {};
        Mask<T> wins[4];
        PCDARTS_UNROLL for (int i = 3; i >= 0; --i) {
          const Mask<T> is_nan = w.phase[i] != w.phase[i];
          wins[i] = is_nan & ~nan_behind;
          nan_behind |= is_nan;
        }
        PCDARTS_UNROLL for (int i = 0; i < 4; ++i) {
          const Mask<T> first = open & (w.phase[i] == largest);
          open &= ~first;
          w.phase[i] = keep<T>(first | wins[i], gradient);
        }
        store_windows(g, to, s, y, w);
      }
    }
  }
}

// A': the first stage of all edges, and everything else that reaches the state.
template <int stride, class S, class G>
PCDARTS_INLINE void pass_a_gradient(const MixedCell& p, const State<S, G>& state,
                                    const SourceGradient<S>& grad, const Parallel& parallel) {
  using T = Accumulate<S>;
  const auto& g = state.grid;
  const EdgePlan& plan = state.plan;
  const int channels = static_cast<int>(p.sampled);
  const int64_t second = grad.layout.second_size;
  const int64_t dw_size = grad.dw != nullptr ? grad.layout.size - second : 0;
  const auto prepare = [&] {
    const BackwardScratch<T> scratch = backward_scratch(p, state, dw_size);
    fill(scratch.planes, p.sampled * state.phases * g.plane, T{0});
    fill(scratch.dt, p.sampled * g.plane, T{0});
    set_state_terms(p, state, grad, scratch.terms);
    return scratch;
  };
  const auto run = [&](const auto& scratch, int64_t chunk, int64_t begin, int64_t end) {
    for (int64_t i = 0; i < dw_size; ++i) scratch.dw[i] = Vec<T>{};
    for (int64_t b = begin; b < end; ++b) {
      load_state<stride>(p, state, b, scratch.planes);
      // the first convolution writes dr, but for phases that it does not read
      bool written = stride == 2 || plan.units == 0;
      if (written) fill(scratch.dr, p.sampled * state.phases * g.map, T{0});
      for (int e = 0; e < state.edges; ++e) {
        const OutEdge<T>& edge = state.edge[e];
        gradient_maps(p, g, grad.node[e], b, scratch.g, scratch.gradient);
        const T* first_z = separable_maps(p, state, grad.first, e, b);
        const T* middle = separable_maps(p, state, grad.middle, e, b);
        for (int i = 0; i < plan.branches; ++i) {
          const Branch& branch = plan.branch[i];
          const Kind kind = branch.primitive.kind;
          if (units_of(kind, stride) == 0) continue;
          const NormGradient* norm = norm_of(p, state, grad, e, branch.slot);
          const T* const* weights = edge.weights + branch.weight;
          const bool skip = kind == Kind::skip, separable = kind == Kind::sep_conv;
          const Taps& taps = state.first[i];
          if (dw_size > 0 && !skip) {
            depthwise(g, taps, channels, stride * stride, scratch.planes, weights[0], scratch.t);
          }
          const T* z = scratch.z;
          if (!grad.frugal) {
            z = separable ? first_z : unit_of(p, g, plan, edge.z, b, branch.unit);
          } else if (skip) {
            reduce_skip(p, g, scratch.planes, weights, scratch.t, scratch.z);
          } else {
            pointwise_maps(p, g, scratch.t, weights[1], scratch.z);
          }
          const auto upstream = [&](int64_t c) {
            return separable ? middle + c * g.map : scratch.gradient[c];
          };
          through_norm(p, g, norm, upstream, z, scratch.dz);
          if (separable) first_z += unit_size(p, g), middle += unit_size(p, g);
          Vec<T>* dw =
              dw_size > 0 ? scratch.dw + grad.layout.at[e][branch.weight] - second : nullptr;
          if (skip) {
            reduce_skip_gradient(p, g, scratch, weights, dw, scratch.dr);
          } else {
            convolve_gradient(p, g, taps, stride * stride, scratch, scratch.planes, weights, dw,
                              scratch.dr, written);
            written = true;
          }
        }
      }
      if (grad.grad_x == nullptr) continue;
      for (int64_t c = 0; c < p.sampled; ++c) {
        finish_channel<stride>(p, state, grad, scratch, b, c);
      }
      for (int64_t q = p.sampled; q < p.channels; ++q) {
        bypass_gradient<stride>(p, state, grad, b, q);
      }
    }
    if (dw_size > 0) {
      reduce_lanes(scratch.dw, dw_size, grad.dw + chunk * grad.layout.size + second);
    }
  };
  for_chunks(parallel, p.batch, prepare, run);
}

}  // namespace
}  // namespace pcdarts::PCDARTS_ISA
