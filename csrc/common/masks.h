// Which lanes of a register are meant: a vector of -1 and 0, or bits where AVX-512 has wide ones.
#pragma once
#include "common/wide.h"

namespace pcdarts::PCDARTS_ISA {
namespace {

template <class V>
PCDARTS_INLINE auto equal(V a, V b) {
  return a == b;
}
// ... of the lanes in `mask`.
template <class M, class V>
PCDARTS_INLINE M equal_within(M mask, V a, V b) {
  return mask & (a == b);
}
template <class V>
PCDARTS_INLINE auto is_nan(V v) {
  return v != v;
}

// mask ? v : 0
template <class M, class V>
PCDARTS_INLINE V keep(M mask, V v) {
  return (V)(mask & (M)v);
}

// The bits of one or the other; of just one of them: keep's result added to what it left, and back.
template <class V>
PCDARTS_INLINE V either(V a, V b) {
  using Bits = decltype(a == b);
  return (V)((Bits)a | (Bits)b);
}
template <class V>
PCDARTS_INLINE V differing(V a, V b) {
  using Bits = decltype(a == b);
  return (V)((Bits)a ^ (Bits)b);
}

// Whether a lane is true.
template <class M>
PCDARTS_INLINE bool any(M mask) {
  bool found = false;
  PCDARTS_UNROLL for (int i = 0; i < kLanes; ++i) found |= mask[i] != 0;
  return found;
}

// The larger; a NaN wins.
template <class V>
PCDARTS_INLINE V maximum(V a, V b) {
  const V larger = a > b ? a : b;  // b where either is a NaN
  return a == a ? larger : a;
}

#ifdef __AVX2__
PCDARTS_INLINE bool any(Mask<float> mask) {
  return __builtin_ia32_movmskps256((Vec<float>)mask) != 0;
}
// The instruction gives its second operand where one is a NaN.
PCDARTS_INLINE Vec<float> maximum(Vec<float> a, Vec<float> b) {
  const Vec<float> ab = __builtin_ia32_maxps256(a, b), ba = __builtin_ia32_maxps256(b, a);
  return (Vec<float>)((Mask<float>)ab | (Mask<float>)ba);
}
#endif

#ifdef __AVX512DQ__
PCDARTS_INLINE __mmask16 equal(Wide<float> a, Wide<float> b) {
  return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ);
}
PCDARTS_INLINE __mmask16 equal_within(__mmask16 mask, Wide<float> a, Wide<float> b) {
  return _mm512_mask_cmp_ps_mask(mask, a, b, _CMP_EQ_OQ);
}
PCDARTS_INLINE __mmask16 is_nan(Wide<float> v) { return _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q); }
PCDARTS_INLINE Wide<float> keep(__mmask16 mask, Wide<float> v) {
  return _mm512_maskz_mov_ps(mask, v);
}
PCDARTS_INLINE bool any(__mmask16 mask) { return mask != 0; }
PCDARTS_INLINE Wide<float> maximum(Wide<float> a, Wide<float> b) {
  constexpr __mmask16 all = 0xffff;  // GCC 12 warns of what the form without a mask does
  return _mm512_or_ps(_mm512_maskz_max_ps(all, a, b), _mm512_maskz_max_ps(all, b, a));
}
#endif

template <class V>
using MaskOf = decltype(equal(V{}, V{}));

// The first `count` lanes of every vector of a register.
template <class V, class T>
PCDARTS_INLINE MaskOf<V> lanes_before(int count) {
  if constexpr (sizeof(MaskOf<V>) == sizeof(Mask<T>)) {
    return first_lanes<T>(count);
  } else {
    const unsigned bits = (1u << count) - 1;
    return static_cast<MaskOf<V>>(bits | bits << kLanes);
  }
}

}  // namespace
}  // namespace pcdarts::PCDARTS_ISA
