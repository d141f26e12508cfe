// The forward passes. By source: A, all first-stage convolutions of a state from one read of it,
// and the pools' statistics; B, the second stage of the separable convolutions. By node: C, every
// incoming edge normalised, weighed, pooled on the fly and written once, already shuffled.
#pragma once
#include "mixed_cell/state.h"

namespace pcdarts::PCDARTS_ISA {
namespace {

// What one mixed channel of one edge adds to its node, the same in every sample: weights of pools,
// skip and stored maps, and where those lie in a sample's z.
template <class T>
struct MixTerms {
  T largest, average, skip, constant;
  bool skips;
  int maps;
  int64_t map[kMaxPrimitives];
  T weight[kMaxPrimitives];
};

template <class T>
struct ForwardScratch {
  T *planes, *t, *pooled;  // [sampled, phases] planes, [sampled] maps, [2] maps
  T* sum;                  // one map
  PoolScratch<T> pool;
  MixTerms<T>* terms;         // [sampled, states]
  Statistics<T>* statistics;  // [slots, sampled] of every edge, and the shared pools' [2, sampled]
};

template <class S>
PCDARTS_INLINE auto forward_scratch(const MixedCell& p, const State<S>& state) {
  using T = Accumulate<S>;
  return in_workspace(Workspace::scratch, [&](Pieces& pieces) {
    const Grid& g = state.grid;
    ForwardScratch<T> s = {};
    s.planes = take<T>(pieces, p.sampled * state.phases * g.plane);
    s.t = take<T>(pieces, p.sampled * g.map);
    s.pooled = take<T>(pieces, 2 * int64_t{g.map});
    s.sum = take<T>(pieces, g.map);
    s.pool = take_pool<T>(pieces, g, state.stride);
    const int64_t slots = int64_t{state.edges} * state.plan.slots + 2;
    s.statistics = take<Statistics<T>>(pieces, slots * p.sampled);
    s.terms = take<MixTerms<T>>(pieces, p.sampled * states_of(p));
    return s;
  });
}

// The statistics of one chunk as moments, [slots of all edges, then max and average pool][sampled].
template <class T>
PCDARTS_INLINE void report(const MixedCell& p, int64_t slots, Statistics<T>* statistics,
                           Moments* moments) {
  for (int64_t i = 0; i < slots * p.sampled; ++i) moments[i] = moments_of(statistics[i]);
}

template <int stride, class S>
PCDARTS_INLINE void pass_a(const MixedCell& p, const State<S>& state, const Parallel& parallel,
                           Moments* moments, int64_t slots) {
  using T = Accumulate<S>;
  const Grid& g = state.grid;
  for_chunks(parallel, p.batch, [&](int64_t chunk, int64_t begin, int64_t end) {
    const ForwardScratch<T> scratch = forward_scratch(p, state);
    fill(scratch.planes, p.sampled * state.phases * g.plane, T{0});
    clear_pool(scratch.pool, g, stride);
    for (int64_t i = 0; i < slots * p.sampled; ++i) scratch.statistics[i] = Statistics<T>{};
    Statistics<T>* const pools = scratch.statistics + (slots - 2) * p.sampled;
    for (int64_t b = begin; b < end; ++b) {
      load_state<stride>(p, state, b, scratch.planes);
      for (int e = 0; e < state.edges; ++e) {
        for (int i = 0, j = 0; i < state.plan.branches; ++i) {
          const Branch& branch = state.plan.branch[i];
          if (units_of(branch.primitive.kind, stride) == 0) continue;
          const OutEdge<T>& edge = state.edge[e];
          T* z = branch.primitive.kind == Kind::sep_conv
                     ? first_of(p, g, state.plan, edge.first, b, j++)
                     : unit_of(p, g, state.plan, edge.z, b, branch.unit);
          first_stage(p, g, branch, state.first[i], state.phases, scratch.planes,
                      edge.weights + branch.weight, scratch.t, z);
          if (!p.training) continue;
          Statistics<T>* to =
              scratch.statistics + (int64_t{e} * state.plan.slots + branch.slot) * p.sampled;
          add_maps(g, p.sampled, z, to);
        }
      }
      for (int64_t c = 0; state.plan.pools && p.training && c < p.sampled; ++c) {
        load_raw<stride>(g, channel_of(state, b, p.source[c]), scratch.pool.raw);
        pool<stride>(g, scratch.pool, [&](int s, int y, Vec<T> largest, Vec<T> average) {
          store8(in_map(g, scratch.pooled, s, y), largest);
          store8(in_map(g, scratch.pooled + g.map, s, y), average);
        });
        add_map(g, scratch.pooled, pools[c]);
        add_map(g, scratch.pooled + g.map, pools[p.sampled + c]);
      }
    }
    report(p, slots, scratch.statistics, moments + chunk * slots * p.sampled);
  });
}

template <class S>
PCDARTS_INLINE void pass_b(const MixedCell& p, const State<S>& state, const Parallel& parallel,
                           Moments* moments, int64_t slots) {
  using T = Accumulate<S>;
  const Grid& g = state.grid;
  for_chunks(parallel, p.batch, [&](int64_t chunk, int64_t begin, int64_t end) {
    const ForwardScratch<T> scratch = forward_scratch(p, state);
    fill(scratch.planes, p.sampled * g.plane, T{0});
    for (int64_t i = 0; i < slots * p.sampled; ++i) scratch.statistics[i] = Statistics<T>{};
    for (int64_t b = begin; b < end; ++b) {
      for (int e = 0; e < state.edges; ++e) {
        for (int i = 0, j = 0; i < state.plan.branches; ++i) {
          const Branch& branch = state.plan.branch[i];
          if (branch.primitive.kind != Kind::sep_conv) continue;
          const OutEdge<T>& edge = state.edge[e];
          const T* z = first_of(p, g, state.plan, edge.first, b, j++);
          T* z2 = unit_of(p, g, state.plan, edge.z, b, branch.unit);
          const int64_t norm = branch.slot * p.sampled;
          second_stage(p, g, state.second[i], z, edge.mean + norm, edge.rstd + norm, scratch.planes,
                       edge.weights + branch.weight, scratch.t, z2);
          if (!p.training) continue;
          Statistics<T>* to =
              scratch.statistics + (int64_t{e} * state.plan.slots + branch.slot + 1) * p.sampled;
          add_maps(g, p.sampled, z2, to);
        }
      }
    }
    report(p, slots, scratch.statistics, moments + chunk * slots * p.sampled);
  });
}

// Merges the chunks' moments into mean, variance and rstd of the slots that were measured.
template <class S>
PCDARTS_INLINE void finish_statistics(const MixedCell& p, const State<S>& state,
                                      const Moments* moments, int64_t slots) {
  using T = Accumulate<S>;
  const int64_t chunks = chunk_count(p.batch), size = slots * p.sampled;
  const auto merged = [&](int64_t at) {
    Moments all = {0, 0, 0};
    for (int64_t chunk = 0; chunk < chunks; ++chunk) all = merge(all, moments[chunk * size + at]);
    return all;
  };
  const auto put_moments = [&](const OutEdge<T>& edge, int64_t at, const Moments& m) {
    if (m.count == 0) return;
    edge.mean[at] = static_cast<T>(m.mean);
    edge.variance[at] = static_cast<T>(m.square / m.count);
    edge.rstd[at] = rstd_of(p, edge.variance[at]);
  };
  const int64_t edge_slots = state.plan.slots;
  for (int64_t c = 0; c < p.sampled; ++c) {
    for (int e = 0; e < state.edges; ++e) {
      for (int64_t slot = 0; slot < edge_slots; ++slot) {
        put_moments(state.edge[e], slot * p.sampled + c,
                    merged((e * edge_slots + slot) * p.sampled + c));
      }
    }
    for (int i = 0; i < state.plan.branches; ++i) {  // all edges share the state's pools
      const Branch& branch = state.plan.branch[i];
      if (branch.primitive.kind != Kind::max_pool && branch.primitive.kind != Kind::avg_pool)
        continue;
      const int64_t which = branch.primitive.kind == Kind::avg_pool;
      const Moments m = merged((state.edges * edge_slots + which) * p.sampled + c);
      for (int e = 0; e < state.edges; ++e) {
        put_moments(state.edge[e], branch.slot * p.sampled + c, m);
      }
    }
  }
}

template <class S>
PCDARTS_INLINE void source_forward(const MixedCell& p, const State<S>& state,
                                   const Parallel& parallel, Moments* moments) {
  const int64_t slots = int64_t{state.edges} * state.plan.slots + 2;
  if (state.stride == 1) {
    pass_a<1>(p, state, parallel, moments, slots);
  } else {
    pass_a<2>(p, state, parallel, moments, slots);
  }
  if (p.training) finish_statistics(p, state, moments, slots);
  pass_b(p, state, parallel, moments, slots);
  if (p.training) finish_statistics(p, state, moments, slots);
}

template <class S, class T>
PCDARTS_INLINE void set_mix_terms(const MixedCell& p, const State<S>& state, const OutEdge<T>& edge,
                                  int64_t c, MixTerms<T>& terms) {
  terms = MixTerms<T>{};
  for (int i = 0; i < state.plan.branches; ++i) {
    const Branch& branch = state.plan.branch[i];
    const Kind kind = branch.primitive.kind;
    const T scale = *edge.beta * edge.alpha[branch.column];
    if (kind == Kind::skip && state.stride == 1) {
      terms.skip += scale, terms.skips = true;
      continue;
    }
    const int last = kind == Kind::sep_conv;  // the second batch-norm of a separable one
    const int64_t norm = (branch.slot + last) * p.sampled + c;
    const T weight = scale * edge.rstd[norm];
    terms.constant -= weight * edge.mean[norm];
    if (kind == Kind::max_pool) {
      terms.largest += weight;
    } else if (kind == Kind::avg_pool) {
      terms.average += weight;
    } else {
      terms.map[terms.maps] = branch.unit * unit_size(p, state.grid) + c * state.grid.map;
      terms.weight[terms.maps++] = weight;
    }
  }
}

template <class T>
PCDARTS_NOINLINE void add_stored_terms(const Grid& g, const MixTerms<T>& terms, const T* z,
                                       T* sum) {
  int i = 0;
  for (; i + 4 <= terms.maps; i += 4) {
    const T *m0 = z + terms.map[i], *m1 = z + terms.map[i + 1], *m2 = z + terms.map[i + 2],
            *m3 = z + terms.map[i + 3];
    const Vec<T> w0 = splat(terms.weight[i]), w1 = splat(terms.weight[i + 1]),
                 w2 = splat(terms.weight[i + 2]), w3 = splat(terms.weight[i + 3]);
    for (int v = 0; v < g.map; v += kLanes) {
      store8(sum + v, load8(sum + v) + w0 * load8(m0 + v) + w1 * load8(m1 + v) +
                          w2 * load8(m2 + v) + w3 * load8(m3 + v));
    }
  }
  for (; i < terms.maps; ++i) {
    const Vec<T> w = splat(terms.weight[i]);
    for (int v = 0; v < g.map; v += kLanes) {
      store8(sum + v, load8(sum + v) + w * load8(z + terms.map[i] + v));
    }
  }
}

// sum += pools and skip of one channel.
template <int stride, class S, class T>
PCDARTS_NOINLINE void add_state_terms(const State<S>& state, const S* x, const MixTerms<T>& terms,
                                      const PoolScratch<T>& scratch, T* sum) {
  const Grid& g = state.grid;
  const Vec<T> skip = splat(terms.skip);
  if (state.plan.pools) {
    const Vec<T> wm = splat(terms.largest), wa = splat(terms.average);
    load_raw<stride>(g, x, scratch.raw);
    pool<stride>(g, scratch, [&](int s, int y, Vec<T> largest, Vec<T> average) {
      T* to = in_map(g, sum, s, y);
      store8(to, load8(to) + wm * largest + wa * average);
    });
  }
  if (terms.skips) {
    read_channel<1>(g, x, [&](int, int s, int y, Vec<T> v) {
      T* to = in_map(g, sum, s, y);
      store8(to, load8(to) + skip * v);
    });
  }
}

// Row y, strip s of the 2x2 maximum of a dense channel [2H, 2W].
template <class S>
PCDARTS_INLINE Vec<Accumulate<S>> pooled_2x2(const Grid& g, const S* x, int s, int y) {
  using T = Accumulate<S>;
  const int count = 2 * (is_short(g, s) ? g.tail : kLanes);
  const int low = count < kLanes ? count : kLanes, high = count - low;
  const S* row = x + 4 * int64_t{y} * g.width + 2 * s * kLanes;
  const Vec<T> a0 = load_part(row, low), b0 = load_part(row + low, high);
  row += 2 * g.width;
  const Vec<T> a1 = load_part(row, low), b1 = load_part(row + low, high);
  return maximum<T>(maximum<T>(even_lanes(a0, b0), odd_lanes(a0, b0)),
                    maximum<T>(even_lanes(a1, b1), odd_lanes(a1, b1)));
}

// One bypass channel of a node: out = sum over its incoming edges of beta * pool(x).
template <class S>
PCDARTS_NOINLINE void mix_bypass(const MixedCell& p, const State<S>* states, int target, int64_t b,
                                 int64_t q, S* out) {
  using T = Accumulate<S>;
  const S* x[kMaxStates];
  Vec<T> beta[kMaxStates];
  for (int j = 0; j < target; ++j) {
    x[j] = channel_of(states[j], b, p.source[q]);
    beta[j] = splat(*edge_into(states[j], target).beta);
  }
  const int pooled = p.stride == 2 ? p.inputs : 0;  // states [0, pooled) are pooled 2x2
  const auto sum_of = [&](int64_t at, int lanes, Vec<T> sum) __attribute__((always_inline)) {
    for (int j = pooled; j < target; ++j) sum += beta[j] * load_part(x[j] + at, lanes);
    return sum;
  };
  const Grid& g = states[0].grid;
  if (pooled == 0) {
    for_vectors(p.height * p.width, [&](int64_t at, int lanes, int) __attribute__((always_inline)) {
      store_part(out + at, sum_of(at, lanes, Vec<T>{}), lanes);
    });
    return;
  }
  write_channel<1>(g, out, [&](int, int s, int y) {
    Vec<T> sum = {};
    for (int j = 0; j < pooled; ++j) sum += beta[j] * pooled_2x2(g, x[j], s, y);
    return sum_of(int64_t{y} * g.width + s * kLanes, is_short(g, s) ? g.tail : kLanes, sum);
  });
}

// Pass C of one node; out is its first channel in the first sample.
template <class S>
PCDARTS_INLINE void node_forward(const MixedCell& p, const State<S>* states, int target, S* out,
                                 const Parallel& parallel) {
  using T = Accumulate<S>;
  const int64_t size = p.height * p.width, sample = p.nodes * p.channels * size;
  for_chunks(parallel, p.batch, [&](int64_t, int64_t begin, int64_t end) {
    const ForwardScratch<T> scratch = forward_scratch(p, states[0]);
    const Grid& g = states[0].grid;
    clear_pool(scratch.pool, g, states[0].stride);
    for (int64_t c = 0; c < p.sampled; ++c) {
      for (int j = 0; j < target; ++j) {
        set_mix_terms(p, states[j], edge_into(states[j], target), c, scratch.terms[c * target + j]);
      }
    }
    for (int64_t b = begin; b < end; ++b) {
      for (int64_t q = 0; q < p.channels; ++q) {
        S* to = out + b * sample + p.destination[q] * size;
        if (q >= p.sampled) {
          mix_bypass(p, states, target, b, q, to);
          continue;
        }
        const MixTerms<T>* terms = scratch.terms + q * target;
        T constant = 0;
        for (int j = 0; j < target; ++j) constant += terms[j].constant;
        T* const sum = as_map_to_write(g, to, scratch.sum);
        fill(sum, g.map, constant);
        for (int j = 0; j < target; ++j) {
          const S* x = channel_of(states[j], b, p.source[q]);
          const T* z = unit_of(p, g, states[j].plan, edge_into(states[j], target).z, b, 0);
          add_stored_terms(g, terms[j], z, sum);
          if (states[j].stride == 1) {
            add_state_terms<1>(states[j], x, terms[j], scratch.pool, sum);
          } else {
            add_state_terms<2>(states[j], x, terms[j], scratch.pool, sum);
          }
        }
        if (sum != scratch.sum) continue;
        write_channel<1>(g, to, [&](int, int s, int y) { return load8(in_map(g, sum, s, y)); });
      }
    }
  });
}

}  // namespace
}  // namespace pcdarts::PCDARTS_ISA
