// What the backward passes share. They run by source, from the last state to the first, so that
// every node's gradient is complete when it is read.
#pragma once
#include "mixed_cell/state.h"

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

// With weights to learn, B' and A' need the depthwise outputs anyway; with fewer channels than this
// z costs less to compute from them than to keep since C'. 16 channels of 8x8: an edge 5 % faster
// when kept, 64: 10 %; 8 of 16x16: no difference (2-core EPYC, AVX-512).
constexpr int64_t kFrugalChannels = 16;

// Everything the three passes of one state read and write besides the state.
template <class S>
struct SourceGradient {
  using T = Accumulate<S>;
  NodeGradient<S> node[kMaxStates];  // by out-edge
  T *first, *middle;  // [edges, B, separable, sampled] maps: z of the first stage, and the gradient
                      // of what its batch-norm gives
  NormGradient* norm;  // [edges, slots, sampled]
  double* sums;        // [chunks, sums of a chunk]
  T* dw;               // [chunks, weight elements of all edges]; null: not needed
  WeightLayout layout;
  bool recompute;  // z was not kept; C' computes it again
  bool frugal;     // ... but does not keep it either, see kFrugalChannels
  bool need_beta;
  const S* add;  // what the gradient of x is added to, laid out as the state; null: nothing
  S* grad_x;     // null: not needed
  int64_t grad_sample, add_sample;
};

// A sum over the samples of a chunk, in lanes; with the map that brings it to kPending vectors it
// goes to double.
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
PCDARTS_INLINE void add_lanes(const auto& g, Vec<T> lanes, LaneSum<T>& sum) {
  sum.lanes += lanes;
  sum.pending += g.vectors;
  if (sum.pending >= kPending) flush(sum);
}

// Lanes outside the image are zero in a gradient.
template <class T>
PCDARTS_INLINE void add_sum(const auto& g, const T* gradient, LaneSum<T>& to) {
  const auto of = [&]<class V>(int at) { return load_as<V>(gradient + at); };
  add_lanes(g, sum_registers<T>(g.vectors, of), to);
}

// to += sum of gradient * (z - mean); W as in sum_registers.
template <class W, class T>
PCDARTS_INLINE void add_dot(const auto& g, const T* gradient, const T* z, T mean, LaneSum<T>& to) {
  const auto product = [&]<class V>(int at) __attribute__((always_inline)) {
    return load_as<V>(gradient + at) * (load_as<V>(z + at) - splat_as<V>(mean));
  };
  add_lanes(g, sum_registers<T, W>(g.vectors, product), to);
}

// A chunk's sums of one edge in pass C': S0 [sampled], then raw S1 of every branch's last
// batch-norm (or of the plain skip) [branches, sampled], then <bypass gradient, bypass>.
PCDARTS_INLINE int64_t sums_of_edge(const MixedCell& p, const EdgePlan& plan) {
  return (1 + plan.branches) * p.sampled + 1;
}
// The same of pass B': S0 and S1 of every branch's first batch-norm [branches, 2, sampled].
PCDARTS_INLINE int64_t second_sums_of_edge(const MixedCell& p, const EdgePlan& plan) {
  return int64_t{plan.branches} * 2 * p.sampled;
}
PCDARTS_INLINE int64_t most_sums_of_edge(const MixedCell& p, const EdgePlan& plan) {
  const int64_t first = sums_of_edge(p, plan), second = second_sums_of_edge(p, plan);
  return first > second ? first : second;
}

// What the statistics of a channel are taken over, in all processes.
PCDARTS_INLINE double values_of_channel(const MixedCell& p) {
  return static_cast<double>(images_of(p.processes, p.batch)) * p.height * p.width;
}

// What a sampled channel of a state, or two that share registers, get back past the convolutions:
// weights of every node's gradient, for maximum and average pool and for skips, and of the pools'
// own values.
template <class V>
struct StateTerms {
  V upstream[2][kMaxStates], skip[kMaxStates], own[2], constant[2];
  bool skips, owns[2];  // whether any such weight is not zero
};

template <class T>
struct BackwardScratch {
  T *planes, *dt;          // [sampled, phases] planes, [sampled] planes
  T* state;                // [sampled, phases] planes; B' alone needs a second set
  T *t, *z, *dz, *pooled;  // [sampled] maps each, [parts, 2] maps
  T* g;                    // [sampled or edges, parts] maps
  T* dr;                   // [sampled, phases] maps
  const T** gradient;      // [sampled] maps, in g or in place
  PoolScratch<T> pool;
  Vec<T>* dw;                  // of all weights of all edges, lane by lane
  LaneSum<T>* sums;            // of a chunk
  StateTerms<Wide<T>>* terms;  // [registers of sampled channels]
};

template <class S, class G>
PCDARTS_INLINE auto backward_scratch(const MixedCell& p, const State<S, G>& state,
                                     int64_t dw_size) {
  using T = Accumulate<S>;
  return in_workspace(Workspace::scratch, [&](Pieces& pieces) {
    const auto& g = state.grid;
    BackwardScratch<T> s = {};
    s.planes = take<T>(pieces, p.sampled * state.phases * g.plane);
    s.dt = take<T>(pieces, p.sampled * g.plane);
    s.state = take<T>(pieces, p.sampled * state.phases * g.plane);
    s.t = take<T>(pieces, p.sampled * g.map);
    s.z = take<T>(pieces, p.sampled * g.map);
    s.dz = take<T>(pieces, p.sampled * g.map);
    const int64_t own = kParts<T> * state.edges;
    s.g = take<T>(pieces, (p.sampled > own ? p.sampled : own) * g.map);
    s.gradient = take<const T*>(pieces, p.sampled);
    s.pooled = take<T>(pieces, kParts<T> * 2 * int64_t{g.map});
    s.dr = take<T>(pieces, p.sampled * state.phases * g.map);
    s.pool = take_pool<T>(pieces, g, state.stride);
    s.dw = take<Vec<T>>(pieces, dw_size);
    s.terms = take<StateTerms<Wide<T>>>(pieces, registers_of<T>(p.sampled));
    s.sums = take<LaneSum<T>>(pieces, state.edges * most_sums_of_edge(p, state.plan));
    return s;
  });
}

template <class S>
PCDARTS_INLINE const S* node_channel(const MixedCell& p, const NodeGradient<S>& node, int64_t b,
                                     int64_t q) {
  return node.grad + b * node.sample + p.destination[q] * p.height * p.width;
}

// The gradient of the batch-norm behind slot `slot` of edge e: [sampled].
template <class S, class G>
PCDARTS_INLINE NormGradient* norm_of(const MixedCell& p, const State<S, G>& state,
                                     const SourceGradient<S>& grad, int e, int slot) {
  return grad.norm + (int64_t{e} * state.plan.slots + slot) * p.sampled;
}

// The [separable, sampled] maps of edge e and sample b in `first` or `middle`.
template <class S, class G>
PCDARTS_INLINE Accumulate<S>* separable_maps(const MixedCell& p, const State<S, G>& state,
                                             Accumulate<S>* all, int e, int64_t b) {
  return all + (e * p.batch + b) * state.plan.separable * unit_size(p, state.grid);
}

// The node's gradient at the mixed channels of one sample, as maps: maps[c].
template <class S>
PCDARTS_INLINE void gradient_maps(const MixedCell& p, const auto& g, const NodeGradient<S>& node,
                                  int64_t b, Accumulate<S>* spare, const Accumulate<S>** maps) {
  for (int64_t c = 0; c < p.sampled; ++c) {
    const S* gradient = node_channel(p, node, b, c);
    prefetch<false>(gradient, node.sample, p.height * p.width);
    maps[c] = as_map(g, gradient, spare + c * g.map);
  }
}

// dz = upstream * a + z * b + c, channel by channel; upstream(c) is a map. In eval mode z is not
// read: 0 times infinity is NaN.
template <class T, class F>
PCDARTS_INLINE void through_norm(const MixedCell& p, const auto& g, const NormGradient* norm,
                                 F upstream, const T* z, T* dz) {
  for (int64_t c = 0; c < p.sampled; ++c, z += g.map, dz += g.map) {
    const T a = static_cast<T>(norm[c].upstream), b = static_cast<T>(norm[c].own),
            d = static_cast<T>(norm[c].constant);
    const T* from = upstream(c);
    for_registers<T>(g.vectors, [&]<class V>(int at) __attribute__((always_inline)) {
      const V scaled = splat_as<V>(a) * load_as<V>(from + at);
      store_as(dz + at,
               p.training ? scaled + splat_as<V>(b) * load_as<V>(z + at) + splat_as<V>(d) : scaled);
    });
    clear_tail(g, dz);
  }
}

}  // namespace
}  // namespace pcdarts::PCDARTS_ISA
