// The next sample's small maps, asked for while this one is worked on. The processor finds long
// runs by itself, but a small map ends before it has: an edge of 64x8x8 whose data is no longer in
// the caches a tenth faster, of 32x16x16 a twentieth, of 16x32x32 slower (2-core EPYC, AVX-512).
#pragma once
#include <cstdint>

#include "common/simd.h"

namespace pcdarts::PCDARTS_ISA {
namespace {

constexpr int64_t kLine = 64, kPrefetched = 1024;  // bytes of a cache line, of a map

// `maps` maps that lie `apart` elements behind `at`, to be read or written. Behind the last sample
// they may be no memory of ours: a prefetch never faults.
template <bool write, class T>
PCDARTS_INLINE void prefetch(const T* at, int64_t apart, int64_t map, int64_t maps = 1) {
  constexpr int64_t item = sizeof(T);
  if (map * item > kPrefetched) return;
  const uintptr_t next = reinterpret_cast<uintptr_t>(at) + static_cast<uintptr_t>(apart * item);
  for (int64_t i = 0; i < maps * map * item; i += kLine) {
    __builtin_prefetch(reinterpret_cast<const void*>(next + static_cast<uintptr_t>(i)), write, 2);
  }
}

}  // namespace
}  // namespace pcdarts::PCDARTS_ISA
