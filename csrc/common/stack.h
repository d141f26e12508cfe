// Eight samples as one stack: samples [N] become [N, 8], with a sample in each lane. Small maps,
// whose rows would leave lanes of every vector empty, are computed in stacks.
#pragma once
#include "common/chunks.h"

namespace pcdarts::PCDARTS_ISA {
namespace {

constexpr int64_t kLeastStacks = 4;  // fewer leave threads without work

PCDARTS_INLINE bool stackable(int64_t batch) {
  return batch % kLanes == 0 && batch / kLanes >= kLeastStacks;
}

template <class T>
PCDARTS_INLINE void transpose(Vec<T> (&v)[kLanes]) {
  PCDARTS_UNROLL for (int distance = 1; distance < kLanes; distance *= 2) {
    PCDARTS_UNROLL for (int i = 0; i < kLanes; ++i) {
      if (i & distance) continue;
      const Vec<T> a = v[i], b = v[i + distance];
      v[i] = distance == 1   ? __builtin_shufflevector(a, b, 0, 8, 2, 10, 4, 12, 6, 14)
             : distance == 2 ? __builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13)
                             : __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11);
      v[i + distance] = distance == 1   ? __builtin_shufflevector(a, b, 1, 9, 3, 11, 5, 13, 7, 15)
                        : distance == 2 ? __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15)
                                        : __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
    }
  }
}

// stacks[b][i][lane] = samples[8 * b + lane][i], b < count, i < size.
template <class T>
PCDARTS_INLINE void stack(const Parallel& parallel, int64_t count, const void* samples,
                          int64_t size, T* stacks) {
  for_chunks(parallel, count, [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      const T* from = static_cast<const T*>(samples) + b * kLanes * size;
      T* to = stacks + b * kLanes * size;
      int64_t i = 0;
      for (; i + kLanes <= size; i += kLanes) {
        Vec<T> v[kLanes];
        PCDARTS_UNROLL for (int lane = 0; lane < kLanes; ++lane) {
          v[lane] = load8(from + lane * size + i);
        }
        transpose<T>(v);
        PCDARTS_UNROLL for (int j = 0; j < kLanes; ++j) store8(to + (i + j) * kLanes, v[j]);
      }
      for (; i < size; ++i) {
        for (int lane = 0; lane < kLanes; ++lane) to[i * kLanes + lane] = from[lane * size + i];
      }
    }
  });
}

// The way back.
template <class T>
PCDARTS_INLINE void unstack(const Parallel& parallel, int64_t count, const T* stacks, int64_t size,
                            void* samples) {
  for_chunks(parallel, count, [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      const T* from = stacks + b * kLanes * size;
      T* to = static_cast<T*>(samples) + b * kLanes * size;
      int64_t i = 0;
      for (; i + kLanes <= size; i += kLanes) {
        Vec<T> v[kLanes];
        PCDARTS_UNROLL for (int j = 0; j < kLanes; ++j) v[j] = load8(from + (i + j) * kLanes);
        transpose<T>(v);
        PCDARTS_UNROLL for (int lane = 0; lane < kLanes; ++lane) {
          store8(to + lane * size + i, v[lane]);
        }
      }
      for (; i < size; ++i) {
        for (int lane = 0; lane < kLanes; ++lane) to[lane * size + i] = from[i * kLanes + lane];
      }
    }
  });
}

}  // namespace
}  // namespace pcdarts::PCDARTS_ISA
