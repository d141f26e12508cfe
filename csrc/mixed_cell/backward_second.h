// Pass B': from the node's gradient through the second stage of the separable convolutions.
#pragma once
#include "mixed_cell/backward_convolution.h"

namespace pcdarts::PCDARTS_ISA {
namespace {

// Merges the chunks' sums, then those of all processes, into the gradients of every separable
// convolution's first batch-norm.
template <class S, class G>
PCDARTS_INLINE void finish_first_norms(const MixedCell& p, const State<S, G>& state,
                                       const SourceGradient<S>& grad) {
  const EdgePlan& plan = state.plan;
  const int64_t size = state.edges * second_sums_of_edge(p, plan);
  merge_chunks(p.batch, grad.sums, size);
  add_processes(p.processes, grad.sums, size);
  const double count = values_of_channel(p);
  for (int e = 0; e < state.edges; ++e) {
    for (int i = 0; i < plan.branches; ++i) {
      const Branch& branch = plan.branch[i];
      if (branch.primitive.kind != Kind::sep_conv) continue;
      for (int64_t c = 0; c < p.sampled; ++c) {
        const double* from = grad.sums + (int64_t{e} * plan.branches + i) * 2 * p.sampled;
        const double s0 = from[c], s1 = from[p.sampled + c];
        const int64_t at = branch.slot * p.sampled + c;
        const double rstd = static_cast<double>(state.edge[e].rstd[at]);
        norm_of(p, state, grad, e, branch.slot)[c] = norm_gradient(
            1, static_cast<double>(state.edge[e].mean[at]), rstd, s0, s1 * rstd, count, p.training);
      }
    }
  }
}

// map = the gradient of one channel through the ReLU, from the plane of what came out of it; s0 and
// s1 get its sum and its dot product with z - mean, of which that ReLU is.
template <class T>
PCDARTS_INLINE void through_middle(const auto& g, const T* plane, const T* z, T mean, T* map,
                                   LaneSum<T>& s0, LaneSum<T>& s1) {
  Vec<T> sum[2], dot[2];
  clear(sum), clear(dot);
  const Vec<T> m = splat(mean);
  const auto row = [&](int y, int chain) __attribute__((always_inline)) {
    for (int s = 0; s < g.strips; ++s) {
      T* at = in_map(g, map, s, y);
      const Vec<T> r = load8(in_plane(g, plane, s, y)), v = through_relu(r, load8(at));
      store8(at, v);
      sum[chain] += v;
      dot[chain] += v * (load8(in_map(g, z, s, y)) - m);
    }
  };
  int y = 0;
  for (; y + 2 <= g.height; y += 2) row(y, 0), row(y + 1, 1);
  if (y < g.height) row(y, 0);
  add_lanes(g, sum[0] + sum[1], s0);
  add_lanes(g, dot[0] + dot[1], s1);
}

// B': from the node's gradient through the second stage (whose input is computed again where C' has
// not done so), to the first batch-norm of every separable convolution: grad.middle.
template <int stride, class S, class G>
PCDARTS_INLINE void pass_b_gradient(const MixedCell& p, const State<S, G>& state,
                                    const SourceGradient<S>& grad, const Parallel& parallel) {
  using T = Accumulate<S>;
  const auto& g = state.grid;
  const EdgePlan& plan = state.plan;
  const int channels = static_cast<int>(p.sampled);
  const int64_t chunk_sums = state.edges * second_sums_of_edge(p, plan);
  const int64_t dw_size = grad.dw != nullptr ? grad.layout.second_size : 0;
  const auto prepare = [&] {
    const BackwardScratch<T> scratch = backward_scratch(p, state, dw_size);
    fill(scratch.planes, p.sampled * g.plane, T{0});
    fill(scratch.dt, p.sampled * g.plane, T{0});
    if (!grad.recompute) fill(scratch.state, p.sampled * state.phases * g.plane, T{0});
    return scratch;
  };
  const auto run = [&](const auto& scratch, int64_t chunk, int64_t begin, int64_t end) {
    for (int64_t i = 0; i < dw_size; ++i) scratch.dw[i] = Vec<T>{};
    for (int64_t i = 0; i < chunk_sums; ++i) scratch.sums[i] = LaneSum<T>{};
    for (int64_t b = begin; b < end; ++b) {
      if (!grad.recompute) load_state<stride>(p, state, b, scratch.state);
      for (int e = 0; e < state.edges; ++e) {
        const OutEdge<T>& edge = state.edge[e];
        gradient_maps(p, g, grad.node[e], b, scratch.g, scratch.gradient);
        T* z = separable_maps(p, state, grad.first, e, b);
        T* middle = separable_maps(p, state, grad.middle, e, b);
        for (int i = 0; i < plan.branches; ++i) {
          const Branch& branch = plan.branch[i];
          if (branch.primitive.kind != Kind::sep_conv) continue;
          if (!grad.recompute) {
            first_stage(p, g, branch, state.first[i], state.phases, scratch.state,
                        edge.weights + branch.weight, scratch.t, z);
          }
          const int64_t first = branch.slot * p.sampled;
          load_middle(p, g, z, edge.mean + first, edge.rstd + first, scratch.planes);
          const Taps& taps = state.second[i];
          const T* const* weights = edge.weights + branch.weight + 2;
          T* z_last = grad.frugal ? scratch.z : unit_of(p, g, plan, edge.z, b, branch.unit);
          if (dw_size > 0) depthwise(g, taps, channels, 1, scratch.planes, weights[0], scratch.t);
          if (grad.frugal) pointwise_maps(p, g, scratch.t, weights[1], z_last);
          const auto upstream = [&](int64_t c) { return scratch.gradient[c]; };
          const NormGradient* norm = norm_of(p, state, grad, e, last_slot(branch));
          through_norm(p, g, norm, upstream, z_last, scratch.dz);
          Vec<T>* dw = dw_size > 0 ? scratch.dw + grad.layout.at[e][branch.weight + 2] : nullptr;
          prefetch<true>(middle, plan.separable * unit_size(p, g), g.map, p.sampled);
          convolve_gradient(p, g, taps, 1, scratch, scratch.planes, weights, dw, middle, false);
          LaneSum<T>* const to = scratch.sums + (int64_t{e} * plan.branches + i) * 2 * p.sampled;
          for (int64_t c = 0; c < p.sampled; ++c) {
            through_middle(g, scratch.planes + c * g.plane, z + c * g.map, edge.mean[first + c],
                           middle + c * g.map, to[c], to[p.sampled + c]);
          }
          z += unit_size(p, g), middle += unit_size(p, g);
        }
      }
    }
    if (dw_size > 0) reduce_lanes(scratch.dw, dw_size, grad.dw + chunk * grad.layout.size);
    double* const to = grad.sums + chunk * chunk_sums;
    for (int64_t i = 0; i < chunk_sums; ++i) to[i] = flush(scratch.sums[i]);
  };
  for_chunks(parallel, p.batch, prepare, run);
  finish_first_norms(p, state, grad);
}

}  // namespace
}  // namespace pcdarts::PCDARTS_ISA
