// The forward pass by node, C: every incoming edge normalised, weighed, pooled on the fly and
// written once, already shuffled.
#pragma once
#include "mixed_cell/state.h"

namespace pcdarts::PCDARTS_ISA {
namespace {

// A batch-norm's output times its weight: weight * (z - mean), rstd in the weight. The mean goes
// first, since a channel without variance has an rstd of 316, and must come out as zero.
template <class T>
struct MixTerm {
  T weight, mean;
};

// What one mixed channel of one edge adds to its node, the same in every sample: pools by Kind, the
// skip, stored maps and where those lie in a sample's z.
template <class T>
struct MixTerms {
  MixTerm<T> largest, average;
  T skip, constant;
  bool skips;
  int maps;
  int64_t at[kMaxPrimitives];
  MixTerm<T> map[kMaxPrimitives];
};

template <class T>
struct NodeScratch {
  T* sum;  // [parts] maps
  PoolScratch<T> pool;
  MixTerms<T>* terms;  // [sampled, states]
};

template <class S, class G>
PCDARTS_INLINE auto node_scratch(const MixedCell& p, const State<S, G>* states, int target) {
  using T = Accumulate<S>;
  return in_workspace(Workspace::scratch, [&](Pieces& pieces) {
    const auto& g = states[0].grid;
    NodeScratch<T> s = {};
    s.sum = take<T>(pieces, kParts<T> * int64_t{g.map});
    s.pool = take_pool<T>(pieces, g, p.stride);
    s.terms = take<MixTerms<T>>(pieces, p.sampled * target);
    return s;
  });
}

template <class S, class G, class T>
PCDARTS_INLINE void set_mix_terms(const MixedCell& p, const State<S, G>& state,
                                  const OutEdge<T>& edge, int64_t c, MixTerms<T>& terms) {
  terms = MixTerms<T>{};
  for (int i = 0; i < state.plan.branches; ++i) {
    const Branch& branch = state.plan.branch[i];
    const Kind kind = branch.primitive.kind;
    const T scale = *edge.beta * edge.alpha[branch.column];
    if (is_plain_skip(kind, state.stride)) {
      terms.skip += scale, terms.skips = true;
      continue;
    }
    const int64_t norm = last_slot(branch) * p.sampled + c;
    const MixTerm<T> term = {scale * edge.rstd[norm], edge.mean[norm]};
    if (!is_pool(kind)) {
      terms.at[terms.maps] = branch.unit * unit_size(p, state.grid) + c * state.grid.map;
      terms.map[terms.maps++] = term;
      continue;
    }
    MixTerm<T>& pool = kind == Kind::max_pool ? terms.largest : terms.average;
    if (pool.weight == 0) {
      pool.mean = term.mean;
    } else {  // a pool that is listed twice; in eval mode the means may differ
      terms.constant += term.weight * (pool.mean - term.mean);
    }
    pool.weight += term.weight;
  }
}

template <class V, class T>
PCDARTS_INLINE V term_of(const MixTerm<T>& term, const T* z) {
  return splat_as<V>(term.weight) * (load_as<V>(z) - splat_as<V>(term.mean));
}

template <class T>
PCDARTS_NOINLINE void add_stored_terms(const auto& g, const MixTerms<T>& terms, const T* z,
                                       T* sum) {
  int i = 0;
  for (; i + 4 <= terms.maps; i += 4) {
    const T *z0 = z + terms.at[i], *z1 = z + terms.at[i + 1], *z2 = z + terms.at[i + 2],
            *z3 = z + terms.at[i + 3];
    const MixTerm<T> t0 = terms.map[i], t1 = terms.map[i + 1], t2 = terms.map[i + 2],
                     t3 = terms.map[i + 3];
    for_registers<T>(g.vectors, [&]<class V>(int v) __attribute__((always_inline)) {
      store_as(sum + v, load_as<V>(sum + v) + term_of<V>(t0, z0 + v) + term_of<V>(t1, z1 + v) +
                            term_of<V>(t2, z2 + v) + term_of<V>(t3, z3 + v));
    });
  }
  for (; i < terms.maps; ++i) {
    const T* map = z + terms.at[i];
    const MixTerm<T> term = terms.map[i];
    for_registers<T>(g.vectors, [&]<class V>(int v) __attribute__((always_inline)) {
      store_as(sum + v, load_as<V>(sum + v) + term_of<V>(term, map + v));
    });
  }
}

// sum += pools and skips of a channel x[0] and, where `next` is 1, of x[1] beside it.
template <int stride, class S, class G, class T>
PCDARTS_NOINLINE void add_state_terms(const State<S, G>& state, const S* const* x, int next,
                                      const MixTerms<T>& terms, const MixTerms<T>& beside,
                                      const PoolScratch<T>& scratch, const Channels<T>& sum) {
  using V = Wide<T>;
  const auto& g = state.grid;
  if (has_pools(state.plan)) {
    const V wm = splat_both<V>(terms.largest.weight, beside.largest.weight),
            wa = splat_both<V>(terms.average.weight, beside.average.weight),
            mm = splat_both<V>(terms.largest.mean, beside.largest.mean),
            ma = splat_both<V>(terms.average.mean, beside.average.mean);
    const bool any_max = state.plan.max_pools, any_average = state.plan.avg_pools;
    const Channels<const T> raw = as_channels<stride>(g, x[0], x[next], scratch.raw, kLowest<T>);
    pool<stride>(g, raw, [&](int s, int y, V largest, V average) {
      T* to = in_map(g, sum.map, s, y);
      V v = load_beside<V>(to, sum.apart);
      // 0 times the infinity of a pool that is not there would be NaN
      if (any_max) v += wm * (largest - mm);
      if (any_average) v += wa * (average - ma);
      store_beside(to, sum.apart, v);
    });
  }
  if (!terms.skips) return;
  for (int part = 0; part <= next; ++part) {
    const Vec<T> skip = splat(part == 0 ? terms.skip : beside.skip);
    T* const own = sum.map + part * sum.apart;
    read_channel<1>(g, x[part], [&](int, int s, int y, Vec<T> v) {
      T* to = in_map(g, own, s, y);
      store8(to, load8(to) + skip * v);
    });
  }
}

// One bypass channel of a node: out = sum over its incoming edges of beta * pool(x).
template <class S, class G>
PCDARTS_NOINLINE void mix_bypass(const MixedCell& p, const State<S, G>* states, int target,
                                 int64_t b, int64_t q, S* out) {
  using T = Accumulate<S>;
  const S* x[kMaxStates];
  Vec<T> beta[kMaxStates];
  for (int j = 0; j < target; ++j) {
    x[j] = channel_of(states[j], b, p.source[q]);
    prefetch<false>(x[j], states[j].sample, states[j].channel);
    beta[j] = splat(*edge_into(states[j], target).beta);
  }
  const int pooled = p.stride == 2 ? p.inputs : 0;  // states [0, pooled) are pooled 2x2
  const auto sum_of = [&](int64_t at, int lanes, Vec<T> sum) __attribute__((always_inline)) {
    for (int j = pooled; j < target; ++j) sum += beta[j] * load_part(x[j] + at, lanes);
    return sum;
  };
  const auto& g = states[0].grid;
  if (pooled == 0) {
    for_vectors(p.height * p.width, [&](int64_t at, int lanes, int) __attribute__((always_inline)) {
      store_part(out + at, sum_of(at, lanes, Vec<T>{}), lanes);
    });
    return;
  }
  write_channel<1>(g, out, [&](int, int s, int y) {
    Vec<T> sum = {};
    for (int j = 0; j < pooled; ++j) sum += beta[j] * largest_of<T>(load_windows(g, x[j], s, y));
    return sum_of(int64_t{y} * g.width + s * kLanes, lanes_of(g, s), sum);
  });
}

// Pass C of one node; out is its first channel in the first sample.
template <class S, class G>
PCDARTS_INLINE void node_forward(const MixedCell& p, const State<S, G>* states, int target, S* out,
                                 const Parallel& parallel) {
  using T = Accumulate<S>;
  const int64_t size = p.height * p.width, node_size = p.nodes * p.channels * size;
  const auto& g = states[0].grid;
  const auto prepare = [&] {
    const NodeScratch<T> scratch = node_scratch(p, states, target);
    for (int64_t c = 0; c < p.sampled; ++c) {
      for (int j = 0; j < target; ++j) {
        set_mix_terms(p, states[j], edge_into(states[j], target), c, scratch.terms[c * target + j]);
      }
    }
    return scratch;
  };
  const auto run = [&](const auto& scratch, int64_t, int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      S* const sample = out + b * node_size;
      for_channels_beside<T>(p.sampled, [&](int64_t first, int next) {
        S* to[2];
        T* sum[2];
        for (int i = 0; i <= next; ++i) {
          to[i] = sample + p.destination[first + i] * size;
          prefetch<true>(to[i], node_size, size);
          sum[i] = as_map_to_write(g, to[i], scratch.sum + i * g.map);
          T constant = 0;
          const MixTerms<T>* terms = scratch.terms + (first + i) * target;
          for (int j = 0; j < target; ++j) constant += terms[j].constant;
          fill(sum[i], g.map, constant);
        }
        for (int j = 0; j < target; ++j) {
          const MixTerms<T>& terms = scratch.terms[first * target + j];
          const MixTerms<T>& beside = scratch.terms[(first + next) * target + j];
          const T* z = unit_of(p, g, states[j].plan, edge_into(states[j], target).z, b, 0);
          const S* x[2];
          for (int i = 0; i <= next; ++i) {
            add_stored_terms(g, i == 0 ? terms : beside, z, sum[i]);
            x[i] = channel_of(states[j], b, p.source[first + i]);
          }
          const Channels<T> sums = {sum[0], sum[next] - sum[0]};
          if (states[j].stride == 1) {
            add_state_terms<1>(states[j], x, next, terms, beside, scratch.pool, sums);
          } else {
            add_state_terms<2>(states[j], x, next, terms, beside, scratch.pool, sums);
          }
        }
        for (int i = 0; i <= next; ++i) {
          if (sum[i] == scratch.sum + i * g.map) write_map(g, sum[i], to[i]);
        }
      });
      for (int64_t q = p.sampled; q < p.channels; ++q) {
        S* to = sample + p.destination[q] * size;
        prefetch<true>(to, node_size, size);
        mix_bypass(p, states, target, b, q, to);
      }
    }
  };
  for_chunks(parallel, p.batch, prepare, run);
}

}  // namespace
}  // namespace pcdarts::PCDARTS_ISA
