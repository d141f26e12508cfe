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

// to[b][column][row] = from[b][row][column], b < count.
template <class T>
PCDARTS_INLINE void transpose_each(const Parallel& parallel, int64_t count, const T* from,
                                   int64_t rows, int64_t columns, T* to) {
  for_chunks(parallel, count, [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      const T* in = from + b * rows * columns;
      T* out = to + b * rows * columns;
      for (int64_t row = 0; row < rows; row += kLanes) {
        for (int64_t column = 0; column < columns; column += kLanes) {
          if (row + kLanes <= rows && column + kLanes <= columns) {
            Vec<T> v[kLanes];
            PCDARTS_UNROLL for (int i = 0; i < kLanes; ++i) {
              v[i] = load8(in + (row + i) * columns + column);
            }
            transpose<T>(v);
            PCDARTS_UNROLL for (int i = 0; i < kLanes; ++i) {
              store8(out + (column + i) * rows + row, v[i]);
            }
            continue;
          }
          for (int64_t r = row; r < rows && r < row + kLanes; ++r) {
            for (int64_t c = column; c < columns && c < column + kLanes; ++c) {
              out[c * rows + r] = in[r * columns + c];
            }
          }
        }
      }
    }
  });
}

// Samples of `size` elements each and their stacks; 0: there are none.
struct StackedTensor {
  int64_t size;
  const void* read;  // null where its values are not needed
  void* written;     // null where it is no result
  float* stack;
};

// compute() on the stacks of all tensors, of `count` stacks each.
template <class F>
PCDARTS_INLINE void through_stacks(const Parallel& parallel, int64_t count, StackedTensor* tensors,
                                   int n, F compute) {
  in_workspace(Workspace::stacks, [&](Pieces& pieces) {
    for (int i = 0; i < n; ++i) {
      const int64_t elements = count * kLanes * tensors[i].size;
      tensors[i].stack = elements == 0 ? nullptr : take<float>(pieces, elements);
    }
    return n;
  });
  for (int i = 0; i < n; ++i) {
    const StackedTensor& t = tensors[i];
    if (t.read == nullptr) continue;
    transpose_each(parallel, count, static_cast<const float*>(t.read), kLanes, t.size, t.stack);
  }
  compute();
  for (int i = 0; i < n; ++i) {
    const StackedTensor& t = tensors[i];
    if (t.written == nullptr) continue;
    transpose_each<float>(parallel, count, t.stack, t.size, kLanes, static_cast<float*>(t.written));
  }
}

}  // namespace
}  // namespace pcdarts::PCDARTS_ISA
