// The backward passes, by source, from the last state to the first, so that every node's gradient
// is complete when it is read. C', the sums that serve batch-norm, alpha and beta alike; B', the
// second stage of the separable convolutions; A', the first stage of all edges and the state's
// gradient.
#pragma once
#include "mixed_cell/forward.h"

namespace pcdarts::PCDARTS_ISA {
namespace {

// The complete gradient of one node: sample b, channel c at grad + b * sample + c * size.
template <class S>
struct NodeGradient {
  const S* grad;
  int64_t sample;
};

// Where the weight gradients of a state's edges lie: first those of pass B', then those of A'.
struct WeightLayout {
  int64_t second_size, size;                   // elements of B', of both
  int64_t at[kMaxStates][4 * kMaxPrimitives];  // by edge and weight tensor
};

// Everything the three passes of one state read and write besides the state.
template <class S>
struct SourceGradient {
  using T = Accumulate<S>;
  NodeGradient<S> node[kMaxStates];  // by out-edge
  T* middle;           // [edges, B, separable, sampled] maps: gradient of the first batch-norms
  NormGradient* norm;  // [edges, slots, sampled]
  double* sums;        // [chunks, sums of a chunk]
  T* dw;               // [chunks, weight elements of all edges]; null: not needed
  WeightLayout layout;
  bool recompute;  // z was not kept; C' computes it again
  // ... but does not keep it either: with weights to learn the passes need the depthwise outputs
  // anyway, from which z costs less than memory does
  bool frugal;
  bool need_beta;
  const S* add;  // what the gradient of x is added to, laid out as the state; null: nothing
  S* grad_x;     // null: not needed
  int64_t grad_sample, add_sample;
};

// A sum over the samples of a chunk, in lanes; every few hundred elements a lane goes to double.
template <class T>
struct LaneSum {
  Vec<T> lanes;
  double total;
  int pending;
};
template <class T>
PCDARTS_INLINE double flush(LaneSum<T>& sum) {
  sum.total += static_cast<double>(sum_lanes<T>(sum.lanes));
  sum.lanes = Vec<T>{}, sum.pending = 0;
  return sum.total;
}
template <class T>
PCDARTS_INLINE void add_lanes(const Grid& g, Vec<T> (&part)[4], LaneSum<T>& sum) {
  sum.lanes += (part[0] + part[1]) + (part[2] + part[3]);
  sum.pending += g.vectors;
  if (sum.pending >= kPending) flush(sum);
}

// Lanes outside the image are zero in a gradient.
template <class T>
PCDARTS_INLINE void add_sum(const Grid& g, const T* gradient, LaneSum<T>& to) {
  Vec<T> sum[4];
  clear(sum);
  int v = 0;
  for (; v + 4 <= g.vectors; v += 4) {
    PCDARTS_UNROLL for (int i = 0; i < 4; ++i) sum[i] += load8(gradient + (v + i) * kLanes);
  }
  for (; v < g.vectors; ++v) sum[0] += load8(gradient + v * kLanes);
  add_lanes(g, sum, to);
}

// to += sum of gradient * (z - mean)
template <class T>
PCDARTS_INLINE void add_dot(const Grid& g, const T* gradient, const T* z, T mean, LaneSum<T>& to) {
  Vec<T> sum[4];
  clear(sum);
  const Vec<T> m = splat(mean);
  int v = 0;
  for (; v + 4 <= g.vectors; v += 4) {
    PCDARTS_UNROLL for (int i = 0; i < 4; ++i) {
      sum[i] += load8(gradient + (v + i) * kLanes) * (load8(z + (v + i) * kLanes) - m);
    }
  }
  for (; v < g.vectors; ++v) {
    sum[0] += load8(gradient + v * kLanes) * (load8(z + v * kLanes) - m);
  }
  add_lanes(g, sum, to);
}

// A chunk's sums of one edge: S0 [sampled], then raw S1 of every branch's last batch-norm (or of
// the plain skip) [branches, sampled], then <bypass gradient, bypass>.
PCDARTS_INLINE int64_t sums_of_edge(const MixedCell& p, const EdgePlan& plan) {
  return (1 + plan.branches) * p.sampled + 1;
}

// What one sampled channel of a state gets back past the convolutions: weights of every node's
// gradient, for maximum and average pool and for skips, and of the pools' own values.
template <class T>
struct StateTerms {
  T upstream[2][kMaxStates], skip[kMaxStates], own[2], constant[2];
  bool skips;
};

template <class T>
struct BackwardScratch {
  T *planes, *dt;          // [sampled, phases] planes, [sampled] planes
  T* state;                // [sampled, phases] planes; B' alone needs a second set
  T *t, *z, *dz, *pooled;  // [sampled] maps each, [2] maps
  T* g;                    // [sampled or edges] maps
  T* dr;                   // [sampled, phases] maps
  const T** gradient;      // [sampled or edges] maps, in g or in place
  PoolScratch<T> pool;
  Vec<T>* dw;            // of all weights of all edges, lane by lane
  LaneSum<T>* sums;      // of a chunk
  StateTerms<T>* terms;  // [sampled]
};

template <class S>
PCDARTS_INLINE auto backward_scratch(const MixedCell& p, const State<S>& state, int64_t dw_size) {
  using T = Accumulate<S>;
  return in_workspace(Workspace::scratch, [&](Pieces& pieces) {
    const Grid& g = state.grid;
    BackwardScratch<T> s = {};
    s.planes = take<T>(pieces, p.sampled * state.phases * g.plane);
    s.dt = take<T>(pieces, p.sampled * g.plane);
    s.state = take<T>(pieces, p.sampled * state.phases * g.plane);
    s.t = take<T>(pieces, p.sampled * g.map);
    s.z = take<T>(pieces, p.sampled * g.map);
    s.dz = take<T>(pieces, p.sampled * g.map);
    const int64_t gradients = p.sampled > state.edges ? p.sampled : state.edges;
    s.g = take<T>(pieces, gradients * g.map);
    s.gradient = take<const T*>(pieces, gradients);
    s.pooled = take<T>(pieces, 2 * int64_t{g.map});
    s.dr = take<T>(pieces, p.sampled * state.phases * g.map);
    s.pool = take_pool<T>(pieces, g, state.stride);
    s.dw = take<Vec<T>>(pieces, dw_size);
    s.terms = take<StateTerms<T>>(pieces, p.sampled);
    s.sums = take<LaneSum<T>>(
        pieces, state.edges * (2 * state.plan.branches * p.sampled + sums_of_edge(p, state.plan)));
    return s;
  });
}

template <class S>
PCDARTS_INLINE const S* node_channel(const MixedCell& p, const NodeGradient<S>& node, int64_t b,
                                     int64_t q) {
  return node.grad + b * node.sample + p.destination[q] * p.height * p.width;
}

// The node's gradient at the mixed channels of one sample, as maps: maps[c].
template <class S>
PCDARTS_INLINE void gradient_maps(const MixedCell& p, const Grid& g, const NodeGradient<S>& node,
                                  int64_t b, Accumulate<S>* spare, const Accumulate<S>** maps) {
  for (int64_t c = 0; c < p.sampled; ++c) {
    maps[c] = as_map(g, node_channel(p, node, b, c), spare + c * g.map);
  }
}

// <Gb, xb> of one sample, the bypass pooled as in forward.
template <int stride, class S>
PCDARTS_NOINLINE double bypass_dot(const MixedCell& p, const State<S>& state,
                                   const NodeGradient<S>& node, int64_t b) {
  using T = Accumulate<S>;
  const Grid& g = state.grid;
  double total = 0;
  for (int64_t q = p.sampled; q < p.channels; ++q) {
    const S* gradient = node_channel(p, node, b, q);
    const S* x = channel_of(state, b, p.source[q]);
    Vec<T> sum[4];
    clear(sum);
    if constexpr (stride == 1) {
      for_vectors(p.height * p.width,
                  [&](int64_t at, int lanes, int chain) __attribute__((always_inline)) {
                    sum[chain] += load_part(x + at, lanes) * load_part(gradient + at, lanes);
                  });
    } else {
      read_channel<1>(g, gradient,
                      [&](int, int s, int y, Vec<T> v) { sum[0] += v * pooled_2x2(g, x, s, y); });
    }
    total += static_cast<double>(sum_lanes<T>((sum[0] + sum[1]) + (sum[2] + sum[3])));
  }
  return total;
}

template <int stride, class S>
PCDARTS_INLINE void pass_c_gradient(const MixedCell& p, const State<S>& state,
                                    const SourceGradient<S>& grad, const Parallel& parallel) {
  using T = Accumulate<S>;
  const Grid& g = state.grid;
  const EdgePlan& plan = state.plan;
  const int64_t edge_sums = sums_of_edge(p, plan), chunk_sums = state.edges * edge_sums;
  for_chunks(parallel, p.batch, [&](int64_t chunk, int64_t begin, int64_t end) {
    const BackwardScratch<T> scratch = backward_scratch(p, state, 0);
    fill(scratch.planes, p.sampled * state.phases * g.plane, T{0});
    fill(scratch.dt, p.sampled * g.plane, T{0});
    clear_pool(scratch.pool, g, stride);
    for (int64_t i = 0; i < chunk_sums; ++i) scratch.sums[i] = LaneSum<T>{};
    for (int64_t b = begin; b < end; ++b) {
      if (grad.recompute) load_state<stride>(p, state, b, scratch.planes);
      for (int e = 0; e < state.edges; ++e) {
        const OutEdge<T>& edge = state.edge[e];
        LaneSum<T>* const edge_sum = scratch.sums + e * edge_sums;
        gradient_maps(p, g, grad.node[e], b, scratch.g, scratch.gradient);
        for (int64_t c = 0; c < p.sampled; ++c) {
          add_sum(g, scratch.gradient[c], edge_sum[c]);
        }
        for (int i = 0, j = 0; i < plan.branches; ++i) {
          const Branch& branch = plan.branch[i];
          if (units_of(branch.primitive.kind, stride) == 0) continue;
          const bool separable = branch.primitive.kind == Kind::sep_conv;
          const int64_t first = branch.slot * p.sampled, last = first + separable * p.sampled;
          T* z = grad.frugal ? scratch.z : unit_of(p, g, plan, edge.z, b, branch.unit);
          if (grad.recompute) {
            const T* const* weights = edge.weights + branch.weight;
            T* stage = separable ? first_of(p, g, plan, edge.first, b, j++) : z;
            first_stage(p, g, branch, state.first[i], state.phases, scratch.planes, weights,
                        scratch.t, stage);
            if (separable) {
              second_stage(p, g, state.second[i], stage, edge.mean + first, edge.rstd + first,
                           scratch.dt, weights, scratch.t, z);
            }
          }
          for (int64_t c = 0; c < p.sampled; ++c) {
            add_dot(g, scratch.gradient[c], z + c * g.map, edge.mean[last + c],
                    edge_sum[(1 + i) * p.sampled + c]);
          }
        }
        if (grad.need_beta) {
          edge_sum[edge_sums - 1].total += bypass_dot<stride>(p, state, grad.node[e], b);
        }
      }
      for (int64_t c = 0; c < p.sampled; ++c) {  // pools and skip: one pool serves all edges
        const S* x = channel_of(state, b, p.source[c]);
        if (plan.pools) {
          load_raw<stride>(g, x, scratch.pool.raw);
          pool<stride>(g, scratch.pool, [&](int s, int y, Vec<T> largest, Vec<T> average) {
            store8(in_map(g, scratch.pooled, s, y), largest);
            store8(in_map(g, scratch.pooled + g.map, s, y), average);
          });
        }
        const T* plain = stride == 1 ? as_map(g, x, scratch.t) : nullptr;
        for (int e = 0; e < state.edges; ++e) {
          const T* gradient = as_map(g, node_channel(p, grad.node[e], b, c), scratch.g);
          for (int i = 0; i < plan.branches; ++i) {
            const Kind kind = plan.branch[i].primitive.kind;
            if (units_of(kind, stride) != 0) continue;
            const bool skip = kind == Kind::skip;
            const T* z = skip ? plain : scratch.pooled + (kind == Kind::avg_pool) * g.map;
            const T mean = skip ? T{0} : state.edge[e].mean[plan.branch[i].slot * p.sampled + c];
            add_dot(g, gradient, z, mean, scratch.sums[e * edge_sums + (1 + i) * p.sampled + c]);
          }
        }
      }
    }
    double* const to = grad.sums + chunk * chunk_sums;
    for (int64_t i = 0; i < chunk_sums; ++i) to[i] = flush(scratch.sums[i]);
  });
}

// Merges the chunks' sums into the gradients of alpha and beta and of every last batch-norm.
template <class S>
PCDARTS_INLINE void finish_sums(const MixedCell& p, const State<S>& state,
                                const SourceGradient<S>& grad, Accumulate<S>* grad_alpha,
                                Accumulate<S>* grad_beta) {
  using T = Accumulate<S>;
  const EdgePlan& plan = state.plan;
  const int64_t edge_sums = sums_of_edge(p, plan), chunks = chunk_count(p.batch);
  const double count = static_cast<double>(p.batch) * p.height * p.width;
  for (int e = 0; e < state.edges; ++e) {
    const auto merged = [&](int64_t at) {
      double sum = 0;
      for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        sum += grad.sums[(chunk * state.edges + e) * edge_sums + at];
      }
      return sum;
    };
    const OutEdge<T>& edge = state.edge[e];
    const double beta = static_cast<double>(*edge.beta);
    double d_beta = merged(edge_sums - 1);
    for (int i = 0; i < plan.branches; ++i) {
      const Branch& branch = plan.branch[i];
      const double alpha = static_cast<double>(edge.alpha[branch.column]);
      const bool plain = slots_of(branch.primitive.kind, state.stride) == 0;
      const int last = branch.slot + (branch.primitive.kind == Kind::sep_conv);
      double sum = 0;
      for (int64_t c = 0; c < p.sampled; ++c) {
        const int64_t at = last * p.sampled + c;
        const double rstd = plain ? 1 : static_cast<double>(edge.rstd[at]);
        const double s1 = merged((1 + i) * p.sampled + c) * rstd;
        sum += s1;
        if (plain) continue;
        grad.norm[(int64_t{e} * plan.slots) * p.sampled + at] =
            norm_gradient(alpha * beta, static_cast<double>(edge.mean[at]), rstd, merged(c), s1,
                          count, p.training);
      }
      d_beta += alpha * sum;
      if (grad_alpha != nullptr) {
        grad_alpha[edge.row * p.primitives + branch.column] = static_cast<T>(beta * sum);
      }
    }
    if (grad_beta != nullptr) grad_beta[edge.row] = static_cast<T>(d_beta);
  }
}

// dz = upstream * a + z * b + c, channel by channel; upstream(c) is a map.
template <class T, class F>
PCDARTS_INLINE void through_norm(const MixedCell& p, const Grid& g, const NormGradient* norm,
                                 F upstream, const T* z, T* dz) {
  for (int64_t c = 0; c < p.sampled; ++c, z += g.map, dz += g.map) {
    const Vec<T> a = splat(static_cast<T>(norm[c].upstream)),
                 b = splat(static_cast<T>(norm[c].own)),
                 d = splat(static_cast<T>(norm[c].constant));
    const T* from = upstream(c);
    for (int v = 0; v < g.map; v += kLanes) {
      store8(dz + v, a * load8(from + v) + b * load8(z + v) + d);
    }
    clear_tail(g, dz);
  }
}

// The depthwise output of all channels.
template <class T>
PCDARTS_INLINE void depthwise_maps(const MixedCell& p, const Grid& g, const Taps& taps, int phases,
                                   const T* planes, const T* w, T* t) {
  for (int64_t c = 0; c < p.sampled; ++c) {
    depthwise(g, taps, planes + c * phases * g.plane, w + c * taps.weights, t + c * g.map);
  }
}

// Backward of z = pointwise(t), t = depthwise(planes), given dz and, for the weights, t: the
// weights' gradients lane by lane in dw (null: not needed), the input's written or added to dr.
template <class T>
PCDARTS_INLINE void convolve_gradient(const MixedCell& p, const Grid& g, const Taps& taps,
                                      int phases, const BackwardScratch<T>& scratch,
                                      const T* planes, const T* const* weights, Vec<T>* dw, T* dr,
                                      bool accumulate) {
  const int channels = static_cast<int>(p.sampled);
  if (dw != nullptr) {
    pointwise_weight_gradient(g, scratch.dz, channels, scratch.t, channels,
                              dw + int64_t{channels} * taps.weights);
  }
  pointwise_to_planes(g, scratch.dz, channels, Matrix<T>{weights[1], 1, channels}, channels,
                      scratch.dt);
  for (int c = 0; c < channels; ++c) {
    const T* dt = scratch.dt + int64_t{c} * g.plane;
    const int64_t at = int64_t{c} * phases;
    if (dw != nullptr) {
      depthwise_weight_gradient(g, taps, planes + at * g.plane, dt, dw + c * taps.weights);
    }
    depthwise_input_gradient(g, taps, dt, weights[0] + c * taps.weights, dr + at * g.map,
                             accumulate);
  }
}

// The same of a stride-2 skip.
template <class T>
PCDARTS_INLINE void reduce_skip_gradient(const MixedCell& p, const Grid& g,
                                         const BackwardScratch<T>& scratch, const T* const* weights,
                                         Vec<T>* dw, T* dr) {
  const int channels = static_cast<int>(p.sampled);
  for (int half = 0; half < 2; ++half) {
    const SkipHalf h = skip_half(p, half);
    if (h.outputs == 0) continue;
    const T* dz = scratch.dz + int64_t{h.first} * g.map;
    if (dw != nullptr) {
      phase_to_maps(p, g, scratch.planes, h.phase, scratch.t);
      pointwise_weight_gradient(g, dz, h.outputs, scratch.t, channels,
                                dw + int64_t{h.first} * channels);
    }
    pointwise_add_to_maps(g, dz, h.outputs, Matrix<T>{weights[half], 1, channels}, channels,
                          dr + int64_t{h.phase} * g.map, int64_t{4} * g.map);
  }
}

}  // namespace
}  // namespace pcdarts::PCDARTS_ISA
