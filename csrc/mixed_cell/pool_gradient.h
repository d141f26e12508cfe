// The gradient of both pools, the way back: from an output row to three input rows, then along each
// to three columns.
#pragma once
#include "mixed_cell/pool.h"

namespace pcdarts::PCDARTS_ISA {
namespace {

// What three values get of the gradient of their maximum: the first one that is the largest of them
// takes it, or the last NaN, as in PyTorch.
template <class V>
struct Shares {
  V first, second, third;
};
template <class V>
PCDARTS_NOINLINE Shares<V> of_last_nan(Shares<V> shares, V a, V b, V c, V gradient) {
  const MaskOf<V> third = is_nan(c), second = is_nan(b) & ~third,
                  first = is_nan(a) & ~second & ~third, no_other = ~(first | second);
  return {either(shares.first, keep(first, gradient)),
          either(shares.second, keep(second, gradient)), keep(no_other, shares.third)};
}
template <class V>
PCDARTS_INLINE Shares<V> shares_of(V a, V b, V c, V largest, MaskOf<V> has_first, V gradient) {
  Shares<V> shares;
  shares.first = keep(equal_within(has_first, a, largest), gradient);
  const V rest = differing(gradient, shares.first);
  shares.second = keep(equal(b, largest), rest);
  shares.third = differing(rest, shares.second);
  if (any(is_nan(largest))) [[unlikely]]
    return of_last_nan(shares, a, b, c, gradient);
  return shares;
}

// Whether what goes to another column stays in its register.
template <int stride, class G>
PCDARTS_INLINE bool stays(const G& g) {
  return stride == 1 && g.strips == 1 && !kWhole<typename G::Layout>;
}

// The gradient of the channels, but for what goes to other columns and waits in the scratch (see
// with_neighbours): maps[phase] = base(phase, strip, row) + gradient. pools(strip, row, maximum,
// average) gives the gradients of both pools.
template <int stride, class G, class T, class FPools, class FBase>
PCDARTS_INLINE void pool_gradient(const G& g, const Channels<const T>& raw,
                                  const PoolScratch<T>& scratch, FPools pools, FBase base,
                                  const Channels<T>& maps) {
  using V = Wide<T>;
  for_strips(g, [&](auto strip) __attribute__((always_inline)) {
    const Inside<T> in = inside<stride, T>(g, strip);
    const int s = strip.s;
    // to the columns of an input row whose windows are all done
    const auto finish = [&](int row, V largest,
                            const RowPool<T>& d) __attribute__((always_inline)) {
      const Neighbours<T> n = neighbours<stride>(g, raw, strip, row);
      const int y = row / stride, odd_row = row % stride, phase = 2 * odd_row;
      // At the border is -infinity, which is the largest where all of a window is.
      const MaskOf<V> has_left = strip.first ? in.left : lanes_before<V, T>(kLanes);
      const Shares<V> to = shares_of(n.left, n.middle, n.right, largest, has_left, d.largest);
      const V left = d.sum + to.first, right = d.sum + to.third;
      const V own = base(phase, s, y) + d.sum + to.second;
      T* const to_own = in_map(g, maps.map + phase * g.map, s, y);
      if (stays<stride>(g)) {
        return store_beside(to_own, maps.apart,
                            own + moved_left(left, T{0}) + moved_right(right, T{0}));
      }
      store_beside(in_map(g, scratch.left + odd_row * g.map, s, y), int64_t{stride} * g.map, left);
      store_beside(to_own, maps.apart, own);
      if constexpr (stride == 1) {
        store_beside(in_map(g, scratch.right, s, y), g.map, right);
      } else {
        store_beside(in_map(g, maps.map + (phase + 1) * g.map, s, y), maps.apart,
                     base(phase + 1, s, y) + right);
      }
    };
    RowPool<T> to_above = {}, to_here = {};  // from the windows before this one
    V last = {};
    const auto spread = [&](int y, const RowPool<T>& above, const RowPool<T>& here,
                            const RowPool<T>& below) __attribute__((always_inline)) {
      const V scale = in.per_column * splat_as<V>(per_row<stride, T>(g, y));
      const V average = (above.sum + here.sum + below.sum) * scale;
      const V largest = maximum(maximum(above.largest, here.largest), below.largest);
      const RowPool<T> d = pools(s, y, largest, average);
      const V da = keep_at<strip.last>(in.middle, d.sum * scale);
      const MaskOf<V> has_above = lanes_before<V, T>(y > 0 ? kLanes : 0);
      const Shares<V> to = shares_of(above.largest, here.largest, below.largest, largest, has_above,
                                     keep_at<strip.last>(in.middle, d.largest));
      to_above.largest += to.first, to_above.sum += da;
      to_here.largest += to.second, to_here.sum += da;
      const RowPool<T> to_below = {to.third, da};
      if (y > 0) finish(stride * y - 1, above.largest, to_above);
      if constexpr (stride == 1) {
        to_above = to_here, to_here = to_below, last = here.largest;
      } else {
        finish(2 * y, here.largest, to_here);
        to_above = to_below, to_here = RowPool<T>{}, last = below.largest;
      }
    };
    for_windows<stride>(g, raw, strip, in, spread);
    finish(stride * g.height - 1, last, to_above);
  });
}

// A value of pool_gradient's maps with what other columns send to it.
template <int stride, class G, class T>
PCDARTS_INLINE Wide<T> with_neighbours(const G& g, const PoolScratch<T>& scratch,
                                       const Channels<T>& maps, int phase, int s, int y) {
  using Layout = typename G::Layout;
  const AnyStrip strip = {s == 0, s + 1 == g.strips, s};
  Wide<T> v = load_beside<Wide<T>>(in_map(g, maps.map + phase * g.map, s, y), maps.apart);
  if (stays<stride>(g)) return v;
  if (stride == 1 || phase % 2 == 1) {
    const T* left = in_map(g, scratch.left + phase / 2 * g.map, s, y);
    v += right_of<Layout>(strip, left, int64_t{stride} * g.map, T{0});
  }
  if (stride == 1) v += left_of<Layout>(strip, in_map(g, scratch.right, s, y), g.map, T{0});
  return v;
}

}  // namespace
}  // namespace pcdarts::PCDARTS_ISA
