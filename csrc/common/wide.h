// Registers of AVX-512 hold two vectors of eight floats. Code that walks through memory in order
// takes V = Wide<T> for as long as it can and Vec<T> for what is left; code that keeps to rows of
// eight puts two channels side by side, or stays with one vector. Elsewhere Wide is Vec.
#pragma once
#ifdef __AVX512DQ__
#include <immintrin.h>
#endif

#include "common/simd.h"

namespace pcdarts::PCDARTS_ISA {
namespace {

#ifdef __AVX512F__
template <class T>
constexpr int kParts = sizeof(T) == 4 ? 2 : 1;  // vectors in a register
#else
template <class T>
constexpr int kParts = 1;
#endif

template <class T, int lanes>
struct Lanes {
  typedef T value __attribute__((vector_size(lanes * sizeof(T))));
  typedef T unaligned __attribute__((vector_size(lanes * sizeof(T)), aligned(sizeof(T))));
};
template <class T>
using Wide = typename Lanes<T, kParts<T> * kLanes>::value;

template <class V, class T>
constexpr int kElements = sizeof(V) / sizeof(T);  // of a register
template <class V, class T>
using Unaligned = typename Lanes<T, kElements<V, T>>::unaligned;

template <class V, class T>
PCDARTS_INLINE V load_as(const T* p) {
  return *reinterpret_cast<const Unaligned<V, T>*>(p);
}
template <class V, class T>
PCDARTS_INLINE void store_as(T* p, V v) {
  *reinterpret_cast<Unaligned<V, T>*>(p) = v;
}
template <class V, class T>
PCDARTS_INLINE V splat_as(T value) {
  return value - V{};  // the compiler knows that this is the value, even where it is -0
}

// Vector `part` of a register.
template <int part, class T, class V>
PCDARTS_INLINE Vec<T> part_of(V v) {
  if constexpr (sizeof(V) == sizeof(Vec<T>)) {
    return v;
  } else {
    constexpr int at = part * kLanes;
    return __builtin_shufflevector(v, v, at, at + 1, at + 2, at + 3, at + 4, at + 5, at + 6,
                                   at + 7);
  }
}

// Two vectors, or two masks, as a register; the first where it holds no more.
template <class V, class P>
PCDARTS_INLINE auto join(P first, P second) {
  if constexpr (sizeof(V) == sizeof(P)) {
    return first;
#ifdef __AVX512DQ__
  } else if constexpr (__is_same(P, Vec<float>)) {  // takes the second from memory, a shuffle not
    return (V)_mm512_insertf32x8(_mm512_castps256_ps512(first), second, 1);
#endif
  } else {
    return __builtin_shufflevector(first, second, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,
                                   15);
  }
}

// The vectors of a register added up.
template <class T, class V>
PCDARTS_INLINE Vec<T> narrow(V v) {
  if constexpr (sizeof(V) == sizeof(Vec<T>)) {
    return v;
  } else {
    return part_of<0, T>(v) + part_of<1, T>(v);
  }
}

// Of the 32 elements of two registers, 16 from `first` on.
template <int first, class V>
PCDARTS_INLINE V sixteen_from(V a, V b) {
  constexpr int i = first;
  return __builtin_shufflevector(a, b, i, i + 1, i + 2, i + 3, i + 4, i + 5, i + 6, i + 7, i + 8,
                                 i + 9, i + 10, i + 11, i + 12, i + 13, i + 14, i + 15);
}

// Eight elements, and in the other half of a register the eight that lie `apart` elements behind.
template <class V, class T>
PCDARTS_INLINE V load_beside(const T* p, int64_t apart) {
  return join<V>(load8(p), load8(p + apart));
}
template <class V, class T>
PCDARTS_INLINE void store_beside(T* p, int64_t apart, V v) {
  store8(p, part_of<0, T>(v));
  if constexpr (sizeof(V) > sizeof(Vec<T>)) store8(p + apart, part_of<1, T>(v));
}
// One element in eight lanes, and in the others the one that lies `apart` elements behind.
template <class V, class T>
PCDARTS_INLINE V splat_beside(const T* p, int64_t apart) {
  return join<V>(splat(p[0]), splat(p[apart]));
}

// One value in the lanes of the first vector of a register, another in those of the second.
template <class V, class T>
PCDARTS_INLINE V splat_both(T first, T second) {
  return join<V>(splat(first), splat(second));
}

// Registers that so many channels take, side by side.
template <class T>
PCDARTS_INLINE int64_t registers_of(int64_t channels) {
  return (channels + kParts<T> - 1) / kParts<T>;
}

// f(channel, 1 where the next one goes along, else 0: a last channel alone is its own neighbour).
template <class T, class F>
PCDARTS_INLINE void for_channels_beside(int64_t channels, F f) {
  for (int64_t c = 0; c < channels; c += kParts<T>) f(c, kParts<T> == 2 && c + 1 < channels);
}

// f.template operator()<V>(first element) for `vectors` vectors of eight.
template <class T, class F>
PCDARTS_INLINE void for_registers(int vectors, F f) {
  int v = 0;
  for (; v + kParts<T> <= vectors; v += kParts<T>) f.template operator()<Wide<T>>(v * kLanes);
  for (; v < vectors; ++v) f.template operator()<Vec<T>>(v * kLanes);
}

// The sum of f.template operator()<V>(first element) over `vectors` vectors of eight, in four
// chains, which hide the latency of an addition. W = Vec<T> reads what has just been written by
// vectors of eight: a wide load would wait until that has left the store buffer.
template <class T, class W = Wide<T>, class F>
PCDARTS_INLINE Vec<T> sum_registers(int vectors, F f) {
  constexpr int width = kElements<W, T> / kLanes;
  W chain[4];
  clear(chain);
  int v = 0;
  for (; v + 4 * width <= vectors; v += 4 * width) {
    PCDARTS_UNROLL for (int i = 0; i < 4; ++i) {
      chain[i] += f.template operator()<W>((v + i * width) * kLanes);
    }
  }
  for (; v + width <= vectors; v += width) chain[0] += f.template operator()<W>(v * kLanes);
  Vec<T> sum = narrow<T>((chain[0] + chain[1]) + (chain[2] + chain[3]));
  for (; v < vectors; ++v) sum += f.template operator()<Vec<T>>(v * kLanes);
  return sum;
}

}  // namespace
}  // namespace pcdarts::PCDARTS_ISA
