// Pass A': through the first stage of all edges to the weights and to the state.
#pragma once
#include "mixed_cell/backward_convolution.h"
#include "mixed_cell/pool_gradient.h"

namespace pcdarts::PCDARTS_ISA {
namespace {

// Sets the weights of channels c and c + next, the same in every sample.
template <class S, class G>
PCDARTS_INLINE void set_state_terms(const MixedCell& p, const State<S, G>& state,
                                    const SourceGradient<S>& grad, int64_t c, int next,
                                    StateTerms<Wide<Accumulate<S>>>& terms) {
  using T = Accumulate<S>;
  using V = Wide<T>;
  const EdgePlan& plan = state.plan;
  terms = StateTerms<V>{};
  for (int e = 0; e < state.edges; ++e) {
    for (int i = 0; i < plan.branches; ++i) {
      const Branch& branch = plan.branch[i];
      const Kind kind = branch.primitive.kind;
      if (is_plain_skip(kind, state.stride)) {
        const T scale = *state.edge[e].beta * state.edge[e].alpha[branch.column];
        terms.skip[e] += splat_as<V>(scale), terms.skips = true;
      } else if (is_pool(kind)) {
        const int which = kind == Kind::avg_pool;
        const NormGradient* norm = norm_of(p, state, grad, e, branch.slot) + c;
        const auto both = [&](double NormGradient::* of) {
          return splat_both<V>(static_cast<T>(norm[0].*of), static_cast<T>(norm[next].*of));
        };
        terms.upstream[which][e] += both(&NormGradient::upstream);
        terms.own[which] += both(&NormGradient::own);
        terms.constant[which] += both(&NormGradient::constant);
        terms.owns[which] |= norm[0].own != 0 || norm[next].own != 0;
      }
    }
  }
}

// Writes channels of the state's gradient from f(phase, strip, row), plus grad.add.
template <int stride, class S, class G, class F>
PCDARTS_INLINE void write_gradient(const State<S, G>& state, const SourceGradient<S>& grad,
                                   int64_t b, int64_t channel, int64_t beside, F f) {
  using T = Accumulate<S>;
  const auto& g = state.grid;
  S* const sample = grad.grad_x + b * grad.grad_sample;
  S *const to = sample + channel * state.channel, *const next = sample + beside * state.channel;
  prefetch<true>(to, grad.grad_sample, state.channel);
  prefetch<true>(next, grad.grad_sample, state.channel);
  if (grad.add == nullptr) return write_channels<stride, T>(g, to, next, f);
  if constexpr (stride == 1) {  // only nodes have something to add, and their edges have stride 1
    const S* const add = grad.add + b * grad.add_sample + channel * state.channel;
    const int64_t apart = (beside - channel) * state.channel;
    write_channels<1, T>(g, to, next, [&](int phase, int s, int y) {
      const S* at = add + int64_t{y} * g.width + s * kLanes;
      const int lanes = lanes_of(g, s);
      return join<Wide<T>>(load_part(at, lanes), load_part(at + apart, lanes)) + f(phase, s, y);
    });
  }
}

// Writes the gradient of sampled channels c and c + next: dr through the ReLU, plus what skips and
// pools send back.
template <int stride, class S, class G>
PCDARTS_NOINLINE void finish_channels(const MixedCell& p, const State<S, G>& state,
                                      const SourceGradient<S>& grad,
                                      const BackwardScratch<Accumulate<S>>& scratch, int64_t b,
                                      int64_t c, int next) {
  using T = Accumulate<S>;
  using V = Wide<T>;
  const auto& g = state.grid;
  const int64_t phases = c * state.phases, apart = int64_t{next} * state.phases;
  const Channels<const T> planes = {scratch.planes + phases * g.plane, apart * g.plane};
  const Channels<T> dr = {scratch.dr + phases * g.map, apart * g.map};
  const StateTerms<V>& terms = scratch.terms[c / kParts<T>];
  Channels<const T> gradient[kMaxStates];
  for (int e = 0; e < state.edges; ++e) {
    gradient[e] = as_channels<1>(g, node_channel(p, grad.node[e], b, c),
                                 node_channel(p, grad.node[e], b, c + next),
                                 scratch.g + int64_t{kParts<T>} * e * g.map, T{0});
  }
  const auto gradient_of = [&](int e, int s, int y) __attribute__((always_inline)) {
    return load_beside<V>(in_map(g, gradient[e].map, s, y), gradient[e].apart);
  };
  const auto past_pools = [&](int phase, int s, int y) __attribute__((always_inline)) {
    const V r = load_beside<V>(in_plane(g, planes.map + phase * g.plane, s, y), planes.apart);
    V v = through_relu(r, load_beside<V>(in_map(g, dr.map + phase * g.map, s, y), dr.apart));
    for (int e = 0; terms.skips && e < state.edges; ++e) v += terms.skip[e] * gradient_of(e, s, y);
    return v;
  };
  const int64_t channel = p.source[c], beside = p.source[c + next];
  if (!has_pools(state.plan)) {
    return write_gradient<stride>(state, grad, b, channel, beside, past_pools);
  }

  const Channels<const T> raw = as_channels<stride>(
      g, channel_of(state, b, channel), channel_of(state, b, beside), scratch.pool.raw, kLowest<T>);
  const auto pools = [&](int s, int y, V largest, V average) __attribute__((always_inline)) {
    RowPool<T> d = {terms.constant[0], terms.constant[1]};
    // 0 in eval mode and of a pool that no edge has; times infinity it would be NaN
    if (terms.owns[0]) d.largest += terms.own[0] * largest;
    if (terms.owns[1]) d.sum += terms.own[1] * average;
    for (int e = 0; e < state.edges; ++e) {
      const V upstream = gradient_of(e, s, y);
      d.largest += terms.upstream[0][e] * upstream, d.sum += terms.upstream[1][e] * upstream;
    }
    if (!state.plan.max_pools) d.largest = V{};
    if (!state.plan.avg_pools) d.sum = V{};
    return d;
  };
  pool_gradient<stride>(g, raw, scratch.pool, pools, past_pools, dr);
  write_gradient<stride>(state, grad, b, channel, beside, [&](int phase, int s, int y) {
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
          w.phase[i] = keep(first | wins[i], gradient);
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
    for_channels_beside<T>(p.sampled, [&](int64_t c, int next) {
      set_state_terms(p, state, grad, c, next, scratch.terms[c / kParts<T>]);
    });
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
      for_channels_beside<T>(p.sampled, [&](int64_t c, int next) {
        finish_channels<stride>(p, state, grad, scratch, b, c, next);
      });
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
