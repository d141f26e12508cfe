// Eight lanes of T, by the compiler's portable vectors: one instruction on AVX2 and AVX-512, two on
// SSE and NEON for float; double takes twice as many. Included by cpu.cpp files only (isa.h).
#pragma once
#include <cstdint>

#include "common/dtype.h"

#define PCDARTS_INLINE [[maybe_unused]] static inline __attribute__((always_inline))
#define PCDARTS_NOINLINE [[maybe_unused]] static __attribute__((noinline))
#define PCDARTS_UNROLL _Pragma("GCC unroll 32")

namespace pcdarts::PCDARTS_ISA {
namespace {

constexpr int kLanes = 8;

template <class T>
struct Vectors;
template <>
struct Vectors<float> {
  typedef float value __attribute__((vector_size(32)));
  typedef float unaligned __attribute__((vector_size(32), aligned(4)));
  typedef float half __attribute__((vector_size(16), aligned(4)));
  typedef int32_t mask __attribute__((vector_size(32)));
};
template <>
struct Vectors<double> {
  typedef double value __attribute__((vector_size(64)));
  typedef double unaligned __attribute__((vector_size(64), aligned(8)));
  typedef double half __attribute__((vector_size(32), aligned(8)));
  typedef int64_t mask __attribute__((vector_size(64)));
};
template <class T>
using Vec = typename Vectors<T>::value;
template <class T>
using Mask = typename Vectors<T>::mask;  // -1 where true, 0 where false

template <class T>
PCDARTS_INLINE Vec<T> splat(T value) {
  return Vec<T>{value, value, value, value, value, value, value, value};
}

template <class T>
PCDARTS_INLINE Vec<T> load8(const T* p) {
  return *reinterpret_cast<const typename Vectors<T>::unaligned*>(p);
}
PCDARTS_INLINE Vec<float> load8(const bfloat16* p) {
  typedef uint16_t Halves __attribute__((vector_size(16), aligned(2)));
  typedef uint32_t Words __attribute__((vector_size(32)));
  return (Vec<float>)(__builtin_convertvector(*reinterpret_cast<const Halves*>(p), Words) << 16);
}

// Keeps a loaded value in its register: GCC would load it again for every product that takes it.
template <class V>
PCDARTS_INLINE V in_register(V v) {
#if defined(__AVX2__)
#ifdef __AVX512F__
  constexpr int bytes = 64;
#else
  constexpr int bytes = 32;
#endif
  if constexpr (sizeof(V) <= bytes) asm("" : "+v"(v));
#endif
  return v;
}

template <class T>
PCDARTS_INLINE void store8(T* p, Vec<T> v) {
  *reinterpret_cast<typename Vectors<T>::unaligned*>(p) = v;
}
PCDARTS_INLINE void store8(bfloat16* p, Vec<float> v) {
  PCDARTS_UNROLL for (int i = 0; i < kLanes; ++i) store(p + i, v[i]);
}

// Lanes 0..3, lanes 4..7.
template <class T>
PCDARTS_INLINE void store_low4(T* p, Vec<T> v) {
  *reinterpret_cast<typename Vectors<T>::half*>(p) = __builtin_shufflevector(v, v, 0, 1, 2, 3);
}
template <class T>
PCDARTS_INLINE void store_high4(T* p, Vec<T> v) {
  *reinterpret_cast<typename Vectors<T>::half*>(p) = __builtin_shufflevector(v, v, 4, 5, 6, 7);
}

// The first `count` lanes; the others are zero on a load and left alone in a store. Four at a time
// where they are, and lanes by constant numbers: a lane chosen at run time goes through memory.
template <class S>
PCDARTS_INLINE Vec<Accumulate<S>> load_some(const S* p, int count) {
  Vec<Accumulate<S>> v = {};
  if (count >= 4) {
    PCDARTS_UNROLL for (int i = 0; i < 4; ++i) v[i] = load(p + i);
    PCDARTS_UNROLL for (int i = 4; i < kLanes; ++i) {
      if (i < count) v[i] = load(p + i);
    }
  } else {
    PCDARTS_UNROLL for (int i = 0; i < 3; ++i) {
      if (i < count) v[i] = load(p + i);
    }
  }
  return v;
}
template <class S>
PCDARTS_INLINE void store_some(S* p, Vec<Accumulate<S>> v, int count) {
  if (count >= 4) {
    PCDARTS_UNROLL for (int i = 0; i < 4; ++i) store(p + i, v[i]);
    PCDARTS_UNROLL for (int i = 4; i < kLanes; ++i) {
      if (i < count) store(p + i, v[i]);
    }
  } else {
    PCDARTS_UNROLL for (int i = 0; i < 3; ++i) {
      if (i < count) store(p + i, v[i]);
    }
  }
}

template <class T>
PCDARTS_INLINE Mask<T> first_lanes(int count) {
  Mask<T> lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  return lane < count;
}

template <class V>
PCDARTS_INLINE V relu(V v) {
  const V zero = {};
  return zero > v ? zero : v;  // a NaN stays
}

// The gradient of r = relu(x), from r; a NaN went through.
template <class V>
PCDARTS_INLINE V through_relu(V r, V gradient) {
  return r <= V{} ? V{} : gradient;
}

// Lanes 4..11 of the 16 lanes a, b.
template <class V>
PCDARTS_INLINE V middle_lanes(V a, V b) {
  return __builtin_shufflevector(a, b, 4, 5, 6, 7, 8, 9, 10, 11);
}

// Lanes 0, 2, ... of the 16 lanes a, b and lanes 1, 3, ...; interleave is the way back.
template <class V>
PCDARTS_INLINE V even_lanes(V a, V b) {
  return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14);
}
template <class V>
PCDARTS_INLINE V odd_lanes(V a, V b) {
  return __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
}
template <class V>
PCDARTS_INLINE V interleave_low(V even, V odd) {
  return __builtin_shufflevector(even, odd, 0, 8, 1, 9, 2, 10, 3, 11);
}
template <class V>
PCDARTS_INLINE V interleave_high(V even, V odd) {
  return __builtin_shufflevector(even, odd, 4, 12, 5, 13, 6, 14, 7, 15);
}

template <class T>
PCDARTS_INLINE void fill(T* p, int64_t count, T value) {
  for (int64_t i = 0; i < count; ++i) p[i] = value;
}

// Sets an array of vectors to zero in registers; `= {}` would clear memory by a slow string store.
template <int count, class V>
PCDARTS_INLINE void clear(V (&v)[count]) {
  PCDARTS_UNROLL for (int i = 0; i < count; ++i) v[i] = V{};
}

// The sum of the lanes, always in the same order.
template <class T>
PCDARTS_INLINE T sum_lanes(Vec<T> v) {
  v += __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3);
  v += __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5);
  return v[0] + v[1];
}

// sum_lanes of eight vectors at once, to the same bits.
template <class T>
PCDARTS_INLINE Vec<T> sums_of_lanes(const Vec<T>* v) {
  Vec<T> half[4], quarter[2];
  PCDARTS_UNROLL for (int i = 0; i < 4; ++i) {  // lanes 0..3 of two vectors
    const Vec<T> a = v[i], b = v[i + 4];
    half[i] = __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11) +
              __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
  }
  PCDARTS_UNROLL for (int i = 0; i < 2; ++i) {  // lanes 0 and 1 of four
    const Vec<T> a = half[i], b = half[i + 2];
    quarter[i] = __builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13) +
                 __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15);
  }
  const Vec<T> a = quarter[0], b = quarter[1];
  return __builtin_shufflevector(a, b, 0, 8, 2, 10, 4, 12, 6, 14) +
         __builtin_shufflevector(a, b, 1, 9, 3, 11, 5, 13, 7, 15);
}

// to[i] = the sum of v[i]'s lanes.
template <class T>
PCDARTS_NOINLINE void reduce_lanes(const Vec<T>* v, int64_t count, T* to) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store8(to + i, sums_of_lanes<T>(v + i));
  for (; i < count; ++i) to[i] = sum_lanes<T>(v[i]);
}

}  // namespace
}  // namespace pcdarts::PCDARTS_ISA
