// The forward passes by source: A, all first-stage convolutions of a state from one read of it, and
// the pools' statistics; B, the second stage of the separable convolutions, in place of the first.
#pragma once
#include "mixed_cell/state.h"

namespace pcdarts::PCDARTS_ISA {
namespace {

template <class T>
struct SourceScratch {
  T *planes, *t, *pooled;  // [sampled, phases] planes, [sampled] maps, [parts, 2] maps
  PoolScratch<T> pool;
  Statistics<T>* statistics;  // [slots, sampled] of every edge, and the shared pools' [2, sampled]
};

template <class S, class G>
PCDARTS_INLINE auto source_scratch(const MixedCell& p, const State<S, G>& state) {
  using T = Accumulate<S>;
  return in_workspace(Workspace::scratch, [&](Pieces& pieces) {
    const auto& g = state.grid;
    SourceScratch<T> s = {};
    s.planes = take<T>(pieces, p.sampled * state.phases * g.plane);
    s.t = take<T>(pieces, p.sampled * g.map);
    s.pooled = take<T>(pieces, kParts<T> * 2 * int64_t{g.map});
    s.pool = take_pool<T>(pieces, g, state.stride);
    const int64_t slots = measured_slots(state.edges, state.plan);
    s.statistics = take<Statistics<T>>(pieces, slots * p.sampled);
    return s;
  });
}

// The statistics of one chunk as moments, [slots of all edges, then max and average pool][sampled].
template <class T>
PCDARTS_INLINE void put_moments(const MixedCell& p, int64_t slots, Statistics<T>* statistics,
                                Moments* moments) {
  for (int64_t i = 0; i < slots * p.sampled; ++i) moments[i] = moments_of(statistics[i]);
}

template <int stride, class S, class G>
PCDARTS_INLINE void pass_a(const MixedCell& p, const State<S, G>& state, const Parallel& parallel,
                           Moments* moments, int64_t slots) {
  using T = Accumulate<S>;
  const auto& g = state.grid;
  const auto prepare = [&] {
    const SourceScratch<T> scratch = source_scratch(p, state);
    fill(scratch.planes, p.sampled * state.phases * g.plane, T{0});
    return scratch;
  };
  const auto run = [&](const auto& scratch, int64_t chunk, int64_t begin, int64_t end) {
    for (int64_t i = 0; i < slots * p.sampled; ++i) scratch.statistics[i] = Statistics<T>{};
    Statistics<T>* const pools = scratch.statistics + (slots - 2) * p.sampled;
    for (int64_t b = begin; b < end; ++b) {
      load_state<stride>(p, state, b, scratch.planes);
      for (int e = 0; e < state.edges; ++e) {
        for (int i = 0; i < state.plan.branches; ++i) {
          const Branch& branch = state.plan.branch[i];
          if (units_of(branch.primitive.kind, stride) == 0) continue;
          const OutEdge<T>& edge = state.edge[e];
          T* z = unit_of(p, g, state.plan, edge.z, b, branch.unit);
          prefetch<true>(z, state.plan.units * unit_size(p, g), g.map, p.sampled);
          first_stage(p, g, branch, state.first[i], state.phases, scratch.planes,
                      edge.weights + branch.weight, scratch.t, z);
          if (!p.training) continue;
          Statistics<T>* to =
              scratch.statistics + (int64_t{e} * state.plan.slots + branch.slot) * p.sampled;
          add_maps(g, p.sampled, z, to);
        }
      }
      if (!has_pools(state.plan) || !p.training) continue;
      for_channels_beside<T>(p.sampled, [&](int64_t c, int next) {
        pool_to_maps<stride>(g, channel_of(state, b, p.source[c]),
                             channel_of(state, b, p.source[c + next]), scratch.pool,
                             scratch.pooled);
        for (int i = 0; i <= next; ++i) {
          const T* pooled = scratch.pooled + 2 * i * g.map;
          add_map<Vec<T>>(g, pooled, pools[c + i]);
          add_map<Vec<T>>(g, pooled + g.map, pools[p.sampled + c + i]);
        }
      });
    }
    put_moments(p, slots, scratch.statistics, moments + chunk * slots * p.sampled);
  };
  for_chunks(parallel, p.batch, prepare, run);
}

template <class S, class G>
PCDARTS_INLINE void pass_b(const MixedCell& p, const State<S, G>& state, const Parallel& parallel,
                           Moments* moments, int64_t slots) {
  using T = Accumulate<S>;
  const auto& g = state.grid;
  const auto prepare = [&] {
    const SourceScratch<T> scratch = source_scratch(p, state);
    fill(scratch.planes, p.sampled * g.plane, T{0});
    return scratch;
  };
  const auto run = [&](const auto& scratch, int64_t chunk, int64_t begin, int64_t end) {
    for (int64_t i = 0; i < slots * p.sampled; ++i) scratch.statistics[i] = Statistics<T>{};
    for (int64_t b = begin; b < end; ++b) {
      for (int e = 0; e < state.edges; ++e) {
        for (int i = 0; i < state.plan.branches; ++i) {
          const Branch& branch = state.plan.branch[i];
          if (branch.primitive.kind != Kind::sep_conv) continue;
          const OutEdge<T>& edge = state.edge[e];
          T* z = unit_of(p, g, state.plan, edge.z, b, branch.unit);
          const int64_t norm = branch.slot * p.sampled;
          prefetch<true>(z, state.plan.units * unit_size(p, g), g.map, p.sampled);
          second_stage(p, g, state.second[i], z, edge.mean + norm, edge.rstd + norm, scratch.planes,
                       edge.weights + branch.weight, scratch.t, z);
          if (!p.training) continue;
          Statistics<T>* to =
              scratch.statistics + (int64_t{e} * state.plan.slots + last_slot(branch)) * p.sampled;
          add_maps(g, p.sampled, z, to);
        }
      }
    }
    put_moments(p, slots, scratch.statistics, moments + chunk * slots * p.sampled);
  };
  for_chunks(parallel, p.batch, prepare, run);
}

// Merges the moments of chunks and processes into mean, variance and rstd of the slots that were
// measured.
template <class S, class G>
PCDARTS_INLINE void finish_statistics(const MixedCell& p, const State<S, G>& state,
                                      Moments* moments, int64_t slots) {
  using T = Accumulate<S>;
  const int64_t size = slots * p.sampled;
  merge_chunks(p.batch, moments, size);
  merge_processes(p.processes, moments, size);
  const auto put_slot = [&](const OutEdge<T>& edge, int64_t at, const Moments& m) {
    if (m.count == 0) return;
    edge.mean[at] = static_cast<T>(m.mean);
    edge.variance[at] = static_cast<T>(m.square / m.count);
    edge.rstd[at] = rstd_of(p, edge.variance[at]);
  };
  const int64_t edge_slots = state.plan.slots;
  for (int64_t c = 0; c < p.sampled; ++c) {
    for (int e = 0; e < state.edges; ++e) {
      for (int64_t slot = 0; slot < edge_slots; ++slot) {
        put_slot(state.edge[e], slot * p.sampled + c,
                 moments[(e * edge_slots + slot) * p.sampled + c]);
      }
    }
    for (int i = 0; i < state.plan.branches; ++i) {  // all edges share the state's pools
      const Branch& branch = state.plan.branch[i];
      if (!is_pool(branch.primitive.kind)) continue;
      const int64_t which = branch.primitive.kind == Kind::avg_pool;
      const Moments m = moments[(state.edges * edge_slots + which) * p.sampled + c];
      for (int e = 0; e < state.edges; ++e) {
        put_slot(state.edge[e], branch.slot * p.sampled + c, m);
      }
    }
  }
}

template <class S, class G>
PCDARTS_INLINE void source_forward(const MixedCell& p, const State<S, G>& state,
                                   const Parallel& parallel, Moments* moments) {
  const int64_t slots = measured_slots(state.edges, state.plan);
  if (state.stride == 1) {
    pass_a<1>(p, state, parallel, moments, slots);
  } else {
    pass_a<2>(p, state, parallel, moments, slots);
  }
  if (p.training) finish_statistics(p, state, moments, slots);
  if (state.plan.separable == 0) return;
  pass_b(p, state, parallel, moments, slots);
  if (p.training) finish_statistics(p, state, moments, slots);
}

}  // namespace
}  // namespace pcdarts::PCDARTS_ISA
