// The channels that pass a mixed operation by: the sum over a node's incoming edges.
#pragma once
#include "mixed_cell/state.h"

namespace pcdarts::PCDARTS_ISA {
namespace {

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

}  // namespace
}  // namespace pcdarts::PCDARTS_ISA
