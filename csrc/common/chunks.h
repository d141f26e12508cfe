// How the CPU kernels cut a batch, and where they work. Included by cpu.cpp files only (isa.h).
#pragma once
#include "common/batch_norm.h"
#include "common/parallel.h"
#include "common/pieces.h"
#include "common/simd.h"
#include "common/workspace.h"

namespace pcdarts::PCDARTS_ISA {
namespace {

// Chunks are the unit of parallel work and of every partial sum: a function of the batch alone.
// Four samples are enough work to pay for a chunk's own sums.
PCDARTS_INLINE int64_t chunk_count(int64_t batch) {
  const int64_t by_size = batch / 4 < 64 ? batch / 4 : 64;
  return by_size > 8 ? by_size : batch < 8 ? batch : 8;
}

// f(scratch, chunk, first sample, last sample + 1), the scratch from prepare(), once a thread.
template <class Prepare, class F>
PCDARTS_INLINE void for_chunks(const Parallel& parallel, int64_t batch, Prepare prepare, F f) {
  struct Body {
    Prepare& prepare;
    F& f;
    int64_t batch, chunks;
  } body{prepare, f, batch, chunk_count(batch)};
  parallel.run(
      body.chunks,
      [](void* data, int64_t begin, int64_t end) {
        Body& self = *static_cast<Body*>(data);
        const auto scratch = self.prepare();
        for (int64_t c = begin; c < end; ++c) {
          self.f(scratch, c, self.batch * c / self.chunks, self.batch * (c + 1) / self.chunks);
        }
      },
      &body);
}

// f(chunk, first sample, last sample + 1)
template <class F>
PCDARTS_INLINE void for_chunks(const Parallel& parallel, int64_t batch, F f) {
  struct Nothing {};
  for_chunks(
      parallel, batch, [] { return Nothing{}; },
      [&](Nothing, int64_t chunk, int64_t begin, int64_t end) { f(chunk, begin, end); });
}

// The first of the chunks' sums [chunks, size] becomes the sum of all.
template <class T>
PCDARTS_NOINLINE void merge_chunks(int64_t batch, T* sums, int64_t size) {
  for (int64_t chunk = 1; chunk < chunk_count(batch); ++chunk) {
    const T* __restrict own = sums + chunk * size;
    for (int64_t at = 0; at < size; ++at) sums[at] += own[at];
  }
}
PCDARTS_NOINLINE void merge_chunks(int64_t batch, Moments* moments, int64_t size) {
  for (int64_t chunk = 1; chunk < chunk_count(batch); ++chunk) {
    const Moments* own = moments + chunk * size;
    for (int64_t at = 0; at < size; ++at) moments[at] = merge(moments[at], own[at]);
  }
}

template <class T>
PCDARTS_INLINE T* take(Pieces& pieces, int64_t count) {
  T* p = reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(pieces.base) + pieces.used);
  // a line between two pieces keeps equally large ones off the same cache sets
  pieces.used += (static_cast<size_t>(count) * sizeof(T) + 127) / 64 * 64;
  return p;
}

// Lays out a struct of pieces twice: to count, then in the workspace.
template <class F>
PCDARTS_INLINE auto in_workspace(Workspace which, F lay_out) {
  Pieces pieces = {nullptr, 0};
  (void)lay_out(pieces);
  pieces = {static_cast<char*>(workspace(which, pieces.used)), 0};
  return lay_out(pieces);
}

}  // namespace
}  // namespace pcdarts::PCDARTS_ISA
