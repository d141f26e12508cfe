// Passes B' and A': through the convolutions to the weights and to the state.
#pragma once
#include "mixed_cell/backward.h"

namespace pcdarts::PCDARTS_ISA {
namespace {

PCDARTS_INLINE WeightLayout weight_layout(const MixedCell& p, int stride, int edges) {
  const EdgePlan plan = edge_plan(p, stride);
  WeightLayout layout = {};
  for (int second = 1; second >= 0; --second) {
    for (int e = 0; e < edges; ++e) {
      for (int i = 0; i < plan.branches; ++i) {
        const Branch& branch = plan.branch[i];
        const int tensors = weights_of(branch.primitive.kind, stride);
        for (int w = 0; w < tensors; ++w) {
          if ((w >= 2) != second) continue;
          layout.at[e][branch.weight + w] = layout.size;
          layout.size += weight_size(branch.primitive, w, p.sampled);
        }
      }
    }
    if (second) layout.second_size = layout.size;
  }
  return layout;
}

// The lanes of dw summed into this chunk's part of the result.
template <class T>
PCDARTS_NOINLINE void reduce_lanes(const Vec<T>* lanes, int64_t count, T* to) {
  for (int64_t i = 0; i < count; ++i) to[i] = sum_lanes<T>(lanes[i]);
}

// Sums the chunks, in order, into the weights' own tensors; depthwise taps leave their blocks.
template <class S>
PCDARTS_INLINE void finish_weights(const MixedCell& p, const State<S>& state,
                                   const SourceGradient<S>& grad, void* const* grad_weights) {
  using T = Accumulate<S>;
  const int64_t chunks = chunk_count(p.batch);
  const auto merged = [&](int64_t at) {
    T sum = 0;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) sum += grad.dw[chunk * grad.layout.size + at];
    return sum;
  };
  for (int e = 0; e < state.edges; ++e) {
    const int offset = edge_offsets(p, state.edge[e].row).weights;
    for (int i = 0; i < state.plan.branches; ++i) {
      const Branch& branch = state.plan.branch[i];
      const int tensors = weights_of(branch.primitive.kind, state.stride);
      for (int w = 0; w < tensors; ++w) {
        const int64_t from = grad.layout.at[e][branch.weight + w];
        T* to = static_cast<T*>(grad_weights[offset + branch.weight + w]);
        if (branch.primitive.kind == Kind::skip || w % 2 == 1) {
          const int64_t size = weight_size(branch.primitive, w, p.sampled);
          for (int64_t j = 0; j < size; ++j) to[j] = merged(from + j);
          continue;
        }
        const Taps& taps = w == 0 ? state.first[i] : state.second[i];
        for (int64_t c = 0; c < p.sampled; ++c) {
          int64_t at = from + c * taps.weights;
          for (int block = 0; block < taps.blocks; ++block) {
            const TapBlock& b = taps.block[block];
            for (int ky = 0; ky < b.rows; ++ky) {
              for (int kx = 0; kx < b.columns; ++kx) {
                to[c * taps.weights + weight_index(b, ky, kx)] = merged(at++);
              }
            }
          }
        }
      }
    }
  }
}

// z from the depthwise output in scratch.t, by the very function that made it in forward.
template <class T>
PCDARTS_INLINE const T* pointwise_again(const MixedCell& p, const Grid& g,
                                        const BackwardScratch<T>& scratch, const T* w) {
  const int channels = static_cast<int>(p.sampled);
  pointwise_to_maps(g, scratch.t, channels, Matrix<T>{w, channels, 1}, channels, scratch.z, g.map);
  return scratch.z;
}

// B': from the node's gradient through the second stage (whose input is computed again where C' has
// not done so), to the first batch-norm of every separable
// convolution: grad.middle, and its sums [chunk, edge, branch, S0 and S1, sampled].
template <int stride, class S>
PCDARTS_INLINE void pass_b_gradient(const MixedCell& p, const State<S>& state,
                                    const SourceGradient<S>& grad, const Parallel& parallel) {
  using T = Accumulate<S>;
  const Grid& g = state.grid;
  const EdgePlan& plan = state.plan;
  const int separable = plan.separable;
  const int64_t chunk_sums = int64_t{state.edges} * plan.branches * 2 * p.sampled;
  for_chunks(parallel, p.batch, [&](int64_t chunk, int64_t begin, int64_t end) {
    const int64_t dw_size = grad.dw != nullptr ? grad.layout.second_size : 0;
    const BackwardScratch<T> scratch = backward_scratch(p, state, dw_size);
    fill(scratch.planes, p.sampled * g.plane, T{0});
    fill(scratch.dt, p.sampled * g.plane, T{0});
    for (int64_t i = 0; i < dw_size; ++i) scratch.dw[i] = Vec<T>{};
    for (int64_t i = 0; i < chunk_sums; ++i) scratch.sums[i] = LaneSum<T>{};
    if (!grad.recompute) fill(scratch.state, p.sampled * state.phases * g.plane, T{0});
    for (int64_t b = begin; b < end; ++b) {
      if (!grad.recompute) load_state<stride>(p, state, b, scratch.state);
      for (int e = 0; e < state.edges; ++e) {
        const OutEdge<T>& edge = state.edge[e];
        gradient_maps(p, g, grad.node[e], b, scratch.g, scratch.gradient);
        T* middle = grad.middle + (e * p.batch + b) * separable * unit_size(p, g);
        for (int i = 0, j = 0; i < plan.branches; ++i) {
          const Branch& branch = plan.branch[i];
          if (branch.primitive.kind != Kind::sep_conv) continue;
          T* z = first_of(p, g, plan, edge.first, b, j++);
          if (!grad.recompute) {
            first_stage(p, g, branch, state.first[i], state.phases, scratch.state,
                        edge.weights + branch.weight, scratch.t, z);
          }
          const int64_t first = branch.slot * p.sampled;
          const NormGradient* norm = grad.norm + int64_t{e} * plan.slots * p.sampled + first;
          load_middle(p, g, z, edge.mean + first, edge.rstd + first, scratch.planes);
          const Taps& taps = state.second[i];
          const T* const* weights = edge.weights + branch.weight + 2;
          const T* z_last = unit_of(p, g, plan, edge.z, b, branch.unit);
          if (dw_size > 0) depthwise_maps(p, g, taps, 1, scratch.planes, weights[0], scratch.t);
          if (grad.frugal) z_last = pointwise_again(p, g, scratch, weights[1]);
          const auto upstream = [&](int64_t c) { return scratch.gradient[c]; };
          through_norm(p, g, norm + p.sampled, upstream, z_last, scratch.dz);
          Vec<T>* dw = dw_size > 0 ? scratch.dw + grad.layout.at[e][branch.weight + 2] : nullptr;
          convolve_gradient(p, g, taps, 1, scratch, scratch.planes, weights, dw, middle, false);
          LaneSum<T>* const to = scratch.sums + (int64_t{e} * plan.branches + i) * 2 * p.sampled;
          for (int64_t c = 0; c < p.sampled; ++c) {
            T* channel = middle + c * g.map;
            for (int y = 0; y < g.height; ++y) {
              for (int s = 0; s < g.strips; ++s) {
                const Vec<T> r = load8(in_plane(g, scratch.planes + c * g.plane, s, y));
                T* at = in_map(g, channel, s, y);
                store8(at, keep<T>(~(r <= Vec<T>{}), load8(at)));
              }
            }
            add_sum(g, channel, to[c]);
            add_dot(g, channel, z + c * g.map, edge.mean[first + c], to[p.sampled + c]);
          }
          middle += unit_size(p, g);
        }
      }
    }
    if (dw_size > 0) reduce_lanes(scratch.dw, dw_size, grad.dw + chunk * grad.layout.size);
    double* const to = grad.sums + chunk * chunk_sums;
    for (int64_t i = 0; i < chunk_sums; ++i) to[i] = flush(scratch.sums[i]);
  });

  const int64_t chunks = chunk_count(p.batch);
  const double count = static_cast<double>(p.batch) * p.height * p.width;
  for (int e = 0; e < state.edges; ++e) {
    for (int i = 0; i < plan.branches; ++i) {
      const Branch& branch = plan.branch[i];
      if (branch.primitive.kind != Kind::sep_conv) continue;
      for (int64_t c = 0; c < p.sampled; ++c) {
        double s0 = 0, s1 = 0;
        for (int64_t chunk = 0; chunk < chunks; ++chunk) {
          const double* from =
              grad.sums + chunk * chunk_sums + (int64_t{e} * plan.branches + i) * 2 * p.sampled;
          s0 += from[c], s1 += from[p.sampled + c];
        }
        const int64_t at = branch.slot * p.sampled + c;
        const double rstd = static_cast<double>(state.edge[e].rstd[at]);
        grad.norm[int64_t{e} * plan.slots * p.sampled + at] = norm_gradient(
            1, static_cast<double>(state.edge[e].mean[at]), rstd, s0, s1 * rstd, count, p.training);
      }
    }
  }
}

// Sets the weights of every sampled channel, the same in every sample.
template <class S>
PCDARTS_INLINE void set_state_terms(const MixedCell& p, const State<S>& state,
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
        if (kind == Kind::skip && state.stride == 1) {
          terms[c].skip[e] += *state.edge[e].beta * state.edge[e].alpha[branch.column];
          terms[c].skips = true;
        } else if (kind == Kind::max_pool || kind == Kind::avg_pool) {
          const int which = kind == Kind::avg_pool;
          const int64_t at = (int64_t{e} * plan.slots + branch.slot) * p.sampled + c;
          terms[c].upstream[which][e] += static_cast<T>(grad.norm[at].upstream);
          terms[c].own[which] += static_cast<T>(grad.norm[at].own);
          terms[c].constant[which] += static_cast<T>(grad.norm[at].constant);
        }
      }
    }
  }
}

// The gradient of one sampled channel: dr through the ReLU, plus what skips and pools send back.
template <int stride, class S>
PCDARTS_NOINLINE void finish_channel(const MixedCell& p, const State<S>& state,
                                     const SourceGradient<S>& grad,
                                     const BackwardScratch<Accumulate<S>>& scratch, int64_t b,
                                     int64_t c) {
  using T = Accumulate<S>;
  const Grid& g = state.grid;
  const EdgePlan& plan = state.plan;
  T* dr = scratch.dr + c * state.phases * g.map;
  for (int phase = 0; phase < state.phases; ++phase) {
    const T* plane = scratch.planes + (c * state.phases + phase) * g.plane;
    for (int y = 0; y < g.height; ++y) {
      for (int s = 0; s < g.strips; ++s) {
        T* at = in_map(g, dr + phase * g.map, s, y);
        const Vec<T> r = load8(in_plane(g, plane, s, y));
        store8(at, keep<T>(~(r <= Vec<T>{}), load8(at)));
      }
    }
  }
  const StateTerms<T>& terms = scratch.terms[c];
  const T** gradient = scratch.gradient;
  for (int e = 0; e < state.edges; ++e) {
    gradient[e] = as_map(g, node_channel(p, grad.node[e], b, c), scratch.g + int64_t{e} * g.map);
  }
  const auto weighted = [&](const T* weight, int at, Vec<T> sum) __attribute__((always_inline)) {
    for (int e = 0; e < state.edges; ++e) sum += splat(weight[e]) * load8(gradient[e] + at);
    return sum;
  };
  for (int v = 0; terms.skips && v < g.map; v += kLanes) {
    store8(dr + v, weighted(terms.skip, v, load8(dr + v)));
  }
  if (!plan.pools) return;
  load_raw<stride>(g, channel_of(state, b, p.source[c]), scratch.pool.raw);
  const auto pool_upstream = [&](int which, int s, int y,
                                 Vec<T> value) __attribute__((always_inline)) {
    const Vec<T> sum = splat(terms.own[which]) * value + splat(terms.constant[which]);
    return weighted(terms.upstream[which], y * g.row + s * kLanes, sum);
  };
  pool_gradient<stride>(
      g, scratch.pool,
      [&](int s, int y, Vec<T> largest) { return pool_upstream(0, s, y, largest); },
      [&](int s, int y, Vec<T> average) { return pool_upstream(1, s, y, average); }, dr);
}

// Writes one channel of the state's gradient from f(phase, strip, row), plus grad.add.
template <int stride, class S, class F>
PCDARTS_INLINE void write_gradient(const State<S>& state, const SourceGradient<S>& grad, int64_t b,
                                   int64_t channel, F f) {
  using T = Accumulate<S>;
  const Grid& g = state.grid;
  S* to = grad.grad_x + b * grad.grad_sample + channel * state.channel;
  if (grad.add == nullptr) return write_channel<stride>(g, to, f);
  const S* add = grad.add + b * grad.add_sample + channel * state.channel;
  if constexpr (stride == 1) {  // only nodes have something to add, and their edges have stride 1
    write_channel<1>(g, to, [&](int phase, int s, int y) {
      const S* at = add + int64_t{y} * g.width + s * kLanes;
      const Vec<T> v = is_short(g, s) ? load_some(at, g.tail) : load8(at);
      return v + f(phase, s, y);
    });
  }
}

template <int stride, class S>
PCDARTS_NOINLINE void bypass_gradient(const MixedCell& p, const State<S>& state,
                                      const SourceGradient<S>& grad,
                                      const BackwardScratch<Accumulate<S>>& scratch, int64_t b,
                                      int64_t q) {
  using T = Accumulate<S>;
  const Grid& g = state.grid;
  const S* from[kMaxStates];
  Vec<T> beta[kMaxStates];
  for (int e = 0; e < state.edges; ++e) {
    from[e] = node_channel(p, grad.node[e], b, q);
    beta[e] = splat(*state.edge[e].beta);
  }
  const auto upstream = [&](int64_t at, int lanes, Vec<T> sum) __attribute__((always_inline)) {
    for (int e = 0; e < state.edges; ++e) sum += beta[e] * load_part(from[e] + at, lanes);
    return sum;
  };
  if constexpr (stride == 1) {
    const int64_t channel = p.source[q] * state.channel;
    S* to = grad.grad_x + b * grad.grad_sample + channel;
    const S* add = grad.add + b * grad.add_sample + channel;
    const bool adds = grad.add != nullptr;
    for_vectors(state.channel, [&](int64_t at, int lanes, int) __attribute__((always_inline)) {
      const Vec<T> sum = adds ? load_part(add + at, lanes) : Vec<T>{};
      store_part(to + at, upstream(at, lanes, sum), lanes);
    });
  } else {
    T* maps = scratch.dr;  // the first maximum of every 2x2 window takes the gradient
    read_channel<2>(g, channel_of(state, b, p.source[q]), [&](int phase, int s, int y, Vec<T> v) {
      store8(in_map(g, maps + phase * g.map, s, y), v);
    });
    for (int y = 0; y < g.height; ++y) {
      for (int s = 0; s < g.strips; ++s) {
        T* at = in_map(g, maps, s, y);
        Vec<T> largest = load8(at);
        PCDARTS_UNROLL for (int i = 1; i < 4; ++i) {
          largest = maximum<T>(largest, load8(at + i * g.map));
        }
        const int lanes = is_short(g, s) ? g.tail : kLanes;
        const Vec<T> gradient = upstream(int64_t{y} * g.width + s * kLanes, lanes, Vec<T>{});
        Mask<T> open = first_lanes<T>(kLanes);
        PCDARTS_UNROLL for (int i = 0; i < 4; ++i) {
          const Vec<T> v = load8(at + i * g.map);
          const Mask<T> wins = open & ((v == largest) | (v != v));
          store8(at + i * g.map, keep<T>(wins, gradient));
          open &= ~wins;
        }
      }
    }
    write_gradient<2>(state, grad, b, p.source[q], [&](int phase, int s, int y) {
      return load8(in_map(g, maps + phase * g.map, s, y));
    });
  }
}

// A': the first stage of all edges, and everything else that reaches the state.
template <int stride, class S>
PCDARTS_INLINE void pass_a_gradient(const MixedCell& p, const State<S>& state,
                                    const SourceGradient<S>& grad, const Parallel& parallel) {
  using T = Accumulate<S>;
  const Grid& g = state.grid;
  const EdgePlan& plan = state.plan;
  const int separable = plan.separable;
  for_chunks(parallel, p.batch, [&](int64_t chunk, int64_t begin, int64_t end) {
    const int64_t second = grad.layout.second_size;
    const int64_t dw_size = grad.dw != nullptr ? grad.layout.size - second : 0;
    const BackwardScratch<T> scratch = backward_scratch(p, state, dw_size);
    fill(scratch.planes, p.sampled * state.phases * g.plane, T{0});
    fill(scratch.dt, p.sampled * g.plane, T{0});
    clear_pool(scratch.pool, g, stride);
    set_state_terms(p, state, grad, scratch.terms);
    for (int64_t i = 0; i < dw_size; ++i) scratch.dw[i] = Vec<T>{};
    for (int64_t b = begin; b < end; ++b) {
      load_state<stride>(p, state, b, scratch.planes);
      fill(scratch.dr, p.sampled * state.phases * g.map, T{0});
      for (int e = 0; e < state.edges; ++e) {
        const OutEdge<T>& edge = state.edge[e];
        gradient_maps(p, g, grad.node[e], b, scratch.g, scratch.gradient);
        const T* middle = grad.middle + (e * p.batch + b) * separable * unit_size(p, g);
        for (int i = 0, j = 0; i < plan.branches; ++i) {
          const Branch& branch = plan.branch[i];
          const Kind kind = branch.primitive.kind;
          if (units_of(kind, stride) == 0) continue;
          const NormGradient* norm =
              grad.norm + (int64_t{e} * plan.slots + branch.slot) * p.sampled;
          const T* const* weights = edge.weights + branch.weight;
          const bool skip = kind == Kind::skip, separable_first = kind == Kind::sep_conv;
          const Taps& taps = state.first[i];
          if (dw_size > 0 && !skip) {
            depthwise_maps(p, g, taps, stride * stride, scratch.planes, weights[0], scratch.t);
          }
          const T* z = scratch.z;
          if (!grad.frugal) {
            z = separable_first ? first_of(p, g, plan, edge.first, b, j)
                                : unit_of(p, g, plan, edge.z, b, branch.unit);
          } else if (skip) {
            reduce_skip(p, g, scratch.planes, weights, scratch.t, scratch.z);
          } else {
            z = pointwise_again(p, g, scratch, weights[1]);
          }
          j += separable_first;
          const auto upstream = [&](int64_t c) {
            return separable_first ? middle + c * g.map : scratch.gradient[c];
          };
          through_norm(p, g, norm, upstream, z, scratch.dz);
          if (separable_first) middle += unit_size(p, g);
          Vec<T>* dw =
              dw_size > 0 ? scratch.dw + grad.layout.at[e][branch.weight] - second : nullptr;
          if (skip) {
            reduce_skip_gradient(p, g, scratch, weights, dw, scratch.dr);
          } else {
            convolve_gradient(p, g, taps, stride * stride, scratch, scratch.planes, weights, dw,
                              scratch.dr, true);
          }
        }
      }
      if (grad.grad_x == nullptr) continue;
      for (int64_t c = 0; c < p.sampled; ++c) {
        finish_channel<stride>(p, state, grad, scratch, b, c);
        const T* dr = scratch.dr + c * state.phases * g.map;
        write_gradient<stride>(state, grad, b, p.source[c], [&](int phase, int s, int y) {
          return load8(in_map(g, dr + phase * g.map, s, y));
        });
      }
      for (int64_t q = p.sampled; q < p.channels; ++q) {
        bypass_gradient<stride>(p, state, grad, scratch, b, q);
      }
    }
    if (dw_size > 0) {
      reduce_lanes(scratch.dw, dw_size, grad.dw + chunk * grad.layout.size + second);
    }
  });
}

template <int stride, class S>
PCDARTS_INLINE void source_gradient(const MixedCell& p, const State<S>& state,
                                    const SourceGradient<S>& grad, const MixedCellBackward& args,
                                    const Parallel& parallel) {
  using T = Accumulate<S>;
  pass_c_gradient<stride>(p, state, grad, parallel);
  finish_sums(p, state, grad, static_cast<T*>(args.grad_alpha), static_cast<T*>(args.grad_beta));
  if (grad.grad_x == nullptr && grad.dw == nullptr) return;
  pass_b_gradient<stride>(p, state, grad, parallel);
  pass_a_gradient<stride>(p, state, grad, parallel);
  if (grad.dw != nullptr) finish_weights(p, state, grad, args.grad_weights);
}

}  // namespace
}  // namespace pcdarts::PCDARTS_ISA
