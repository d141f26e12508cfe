// Pass C': the sums that serve batch-norm, alpha and beta alike; with z computed again where
// forward has not kept it.
#pragma once
#include "mixed_cell/backward.h"

namespace pcdarts::PCDARTS_ISA {
namespace {

// <Gb, xb> of one sample, the bypass pooled as in forward.
template <int stride, class S, class G>
PCDARTS_NOINLINE double bypass_dot(const MixedCell& p, const State<S, G>& state,
                                   const NodeGradient<S>& node, int64_t b) {
  using T = Accumulate<S>;
  const auto& g = state.grid;
  double total = 0;
  for (int64_t q = p.sampled; q < p.channels; ++q) {
    const S* gradient = node_channel(p, node, b, q);
    const S* x = channel_of(state, b, p.source[q]);
    prefetch<false>(gradient, node.sample, p.height * p.width);
    prefetch<false>(x, state.sample, state.channel);
    Vec<T> sum[4];
    clear(sum);
    if constexpr (stride == 1) {
      for_vectors(p.height * p.width,
                  [&](int64_t at, int lanes, int chain) __attribute__((always_inline)) {
                    sum[chain] += load_part(x + at, lanes) * load_part(gradient + at, lanes);
                  });
    } else {
      read_channel<1>(g, gradient, [&](int, int s, int y, Vec<T> v) {
        sum[0] += v * largest_of<T>(load_windows(g, x, s, y));
      });
    }
    total += static_cast<double>(sum_lanes<T>((sum[0] + sum[1]) + (sum[2] + sum[3])));
  }
  return total;
}

template <int stride, class S, class G>
PCDARTS_INLINE void pass_c_gradient(const MixedCell& p, const State<S, G>& state,
                                    const SourceGradient<S>& grad, const Parallel& parallel) {
  using T = Accumulate<S>;
  const auto& g = state.grid;
  const EdgePlan& plan = state.plan;
  const int64_t edge_sums = sums_of_edge(p, plan), chunk_sums = state.edges * edge_sums;
  const auto prepare = [&] {
    const BackwardScratch<T> scratch = backward_scratch(p, state, 0);
    fill(scratch.planes, p.sampled * state.phases * g.plane, T{0});
    fill(scratch.dt, p.sampled * g.plane, T{0});
    return scratch;
  };
  const auto run = [&](const auto& scratch, int64_t chunk, int64_t begin, int64_t end) {
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
        T* first_z = separable_maps(p, state, grad.first, e, b);
        for (int i = 0; i < plan.branches; ++i) {
          const Branch& branch = plan.branch[i];
          if (units_of(branch.primitive.kind, stride) == 0) continue;
          const bool separable = branch.primitive.kind == Kind::sep_conv;
          const int64_t first = branch.slot * p.sampled, last = last_slot(branch) * p.sampled;
          T* z = grad.frugal ? scratch.z : unit_of(p, g, plan, edge.z, b, branch.unit);
          if (grad.recompute) {
            const T* const* weights = edge.weights + branch.weight;
            if (separable) {
              prefetch<true>(first_z, plan.separable * unit_size(p, g), g.map, p.sampled);
            }
            first_stage(p, g, branch, state.first[i], state.phases, scratch.planes, weights,
                        scratch.t, separable ? first_z : z);
            if (separable) {
              second_stage(p, g, state.second[i], first_z, edge.mean + first, edge.rstd + first,
                           scratch.dt, weights, scratch.t, z);
              first_z += unit_size(p, g);
            }
          }
          for (int64_t c = 0; c < p.sampled; ++c) {
            add_dot<Wide<T>>(g, scratch.gradient[c], z + c * g.map, edge.mean[last + c],
                             edge_sum[(1 + i) * p.sampled + c]);
          }
        }
        if (grad.need_beta) {
          edge_sum[edge_sums - 1].total += bypass_dot<stride>(p, state, grad.node[e], b);
        }
      }
      // pools and skip: one pool serves all edges
      for_channels_beside<T>(p.sampled, [&](int64_t first, int next) {
        const S* x[2];
        for (int i = 0; i <= next; ++i) x[i] = channel_of(state, b, p.source[first + i]);
        if (has_pools(plan)) {
          pool_to_maps<stride>(g, x[0], x[next], scratch.pool, scratch.pooled);
        }
        for (int part = 0; part <= next; ++part) {
          const int64_t c = first + part;
          const T* pooled = scratch.pooled + 2 * part * g.map;
          const T* plain = stride == 1 ? as_map(g, x[part], scratch.t) : nullptr;
          for (int e = 0; e < state.edges; ++e) {
            const T* gradient = as_map(g, node_channel(p, grad.node[e], b, c), scratch.g);
            for (int i = 0; i < plan.branches; ++i) {
              const Kind kind = plan.branch[i].primitive.kind;
              if (units_of(kind, stride) != 0) continue;
              const bool skip = kind == Kind::skip;
              const T* z = skip ? plain : pooled + (kind == Kind::avg_pool) * g.map;
              const T mean = skip ? T{0} : state.edge[e].mean[plan.branch[i].slot * p.sampled + c];
              add_dot<Vec<T>>(g, gradient, z, mean,
                              scratch.sums[e * edge_sums + (1 + i) * p.sampled + c]);
            }
          }
        }
      });
    }
    double* const to = grad.sums + chunk * chunk_sums;
    for (int64_t i = 0; i < chunk_sums; ++i) to[i] = flush(scratch.sums[i]);
  };
  for_chunks(parallel, p.batch, prepare, run);
}

// rstd of a branch's last batch-norm; 1 for the plain skip, which has none.
template <class S, class G>
PCDARTS_INLINE double last_rstd(const MixedCell& p, const State<S, G>& state, int e,
                                const Branch& branch, int64_t c) {
  if (is_plain_skip(branch.primitive.kind, state.stride)) return 1;
  return static_cast<double>(state.edge[e].rstd[last_slot(branch) * p.sampled + c]);
}

// Merges the chunks' sums into the gradients of alpha and beta, which are those of this process's
// images, then the sums of all processes into the gradients of every last batch-norm.
template <class S, class G>
PCDARTS_INLINE void finish_sums(const MixedCell& p, const State<S, G>& state,
                                const SourceGradient<S>& grad, Accumulate<S>* grad_alpha,
                                Accumulate<S>* grad_beta) {
  using T = Accumulate<S>;
  const EdgePlan& plan = state.plan;
  const int64_t edge_sums = sums_of_edge(p, plan), size = state.edges * edge_sums;
  merge_chunks(p.batch, grad.sums, size);
  for (int e = 0; e < state.edges; ++e) {
    const OutEdge<T>& edge = state.edge[e];
    double* const sums = grad.sums + e * edge_sums;
    const double beta = static_cast<double>(*edge.beta);
    double d_beta = sums[edge_sums - 1];
    for (int i = 0; i < plan.branches; ++i) {
      const Branch& branch = plan.branch[i];
      double sum = 0;
      for (int64_t c = 0; c < p.sampled; ++c) {
        double& s1 = sums[(1 + i) * p.sampled + c];
        s1 *= last_rstd(p, state, e, branch, c);
        sum += s1;
      }
      d_beta += static_cast<double>(edge.alpha[branch.column]) * sum;
      if (grad_alpha != nullptr) {
        grad_alpha[edge.row * p.primitives + branch.column] = static_cast<T>(beta * sum);
      }
    }
    if (grad_beta != nullptr) grad_beta[edge.row] = static_cast<T>(d_beta);
  }
  add_processes(p.processes, grad.sums, size);
  const double count = values_of_channel(p);
  for (int e = 0; e < state.edges; ++e) {
    const OutEdge<T>& edge = state.edge[e];
    const double* const sums = grad.sums + e * edge_sums;
    for (int i = 0; i < plan.branches; ++i) {
      const Branch& branch = plan.branch[i];
      if (is_plain_skip(branch.primitive.kind, state.stride)) continue;
      const double weight =
          static_cast<double>(edge.alpha[branch.column]) * static_cast<double>(*edge.beta);
      for (int64_t c = 0; c < p.sampled; ++c) {
        const int64_t at = last_slot(branch) * p.sampled + c;
        norm_of(p, state, grad, e, last_slot(branch))[c] = norm_gradient(
            weight, static_cast<double>(edge.mean[at]), static_cast<double>(edge.rstd[at]), sums[c],
            sums[(1 + i) * p.sampled + c], count, p.training);
      }
    }
  }
}

}  // namespace
}  // namespace pcdarts::PCDARTS_ISA
