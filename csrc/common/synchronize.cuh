// Batch statistics of all processes, between two launches: what each has measured of its own batch
// is gathered and merged in the order of their ranks, so that all go on with the same bits.
#pragma once
#include "common/moments.cuh"
#include "common/processes.h"

namespace pcdarts {

constexpr int kMostSynchronized = 256;  // slots: of a state's edges, one a primitive
constexpr int kSynchronizeThreads = 256;

// Two values of every channel: mean and variance, or those two of a norm's gradient that come from
// sums. All but the variance are means over a batch: over several of one size, the mean of theirs.
struct Synchronized {
  float *first, *second;  // of channel c of slot s: at (s * channels + c) * apart
  int64_t apart, channels;
  float* rstd = nullptr;  // [slots, channels], from the variance; null: there is none
  double eps = 0;
  int slots = 0;
  int slot[kMostSynchronized] = {};
};

__device__ __forceinline__ int64_t place_of(const Synchronized& a, int64_t i) {
  return a.slot[i / a.channels] * a.channels + i % a.channels;
}

static __global__ void __launch_bounds__(kSynchronizeThreads)
    collect_kernel(const __grid_constant__ Synchronized a, Pack<float, 2>* own) {
  const int64_t i = int64_t{blockIdx.x} * kSynchronizeThreads + threadIdx.x;
  if (i >= a.slots * a.channels) return;
  const int64_t at = place_of(a, i) * a.apart;
  put(own + i, Pack<float, 2>{{get(a.first + at), get(a.second + at)}});
}

// all: [processes, slots, channels].
static __global__ void __launch_bounds__(kSynchronizeThreads)
    synchronize_kernel(const __grid_constant__ Synchronized a, const Pack<float, 2>* all,
                       int64_t processes) {
  const int64_t i = int64_t{blockIdx.x} * kSynchronizeThreads + threadIdx.x;
  const int64_t size = a.slots * a.channels;
  if (i >= size) return;
  const int64_t place = place_of(a, i);
  const double count = static_cast<double>(processes);
  double first = 0, second = 0;
  for (int64_t rank = 0; rank < processes; ++rank) {
    first += static_cast<double>(get(all + rank * size + i).value[0]);
  }
  first /= count;
  for (int64_t rank = 0; rank < processes; ++rank) {
    const Pack<float, 2> own = get(all + rank * size + i);
    const double d = a.rstd == nullptr ? 0 : static_cast<double>(own.value[0]) - first;
    second += static_cast<double>(own.value[1]) + d * d;
  }
  const float rounded = static_cast<float>(second / count);
  put(a.first + place * a.apart, static_cast<float>(first));
  put(a.second + place * a.apart, rounded);
  if (a.rstd == nullptr) return;
  put(a.rstd + place, static_cast<float>(norm_rstd(static_cast<double>(rounded), a.eps)));
}

// Elements of `exchange` for so many values.
inline int64_t exchange_size(const Processes& processes, int64_t values) {
  return processes.count > 1 ? (1 + processes.count) * values : 0;
}

inline void synchronize(const Processes& processes, const Synchronized& a, Pack<float, 2>* exchange,
                        void* stream) {
  const int64_t size = a.slots * a.channels;
  if (processes.count < 2 || size == 0) return;
  const unsigned blocks = grid_of(ceil_div(size, kSynchronizeThreads));
  Pack<float, 2>* const all = exchange + size;
  launch(&collect_kernel, blocks, kSynchronizeThreads, 0, stream, a, exchange);
  processes.gather(processes.count, reinterpret_cast<const float*>(exchange),
                   reinterpret_cast<float*>(all), 2 * size);
  launch(&synchronize_kernel, blocks, kSynchronizeThreads, 0, stream, a, all, processes.count);
}

// What `launch_merge` leaves.
inline Synchronized merged_by(const MergeMoments& m) {
  Synchronized a = {.first = m.mean,
                    .second = m.variance,
                    .apart = 1,
                    .channels = m.channels,
                    .rstd = m.rstd,
                    .eps = m.eps};
  for (int e = 0; e < m.edges; ++e) {
    for (int i = 0; i < m.count; ++i) {
      a.slot[a.slots++] = static_cast<int>(m.to[e]) + m.slot[i];
    }
  }
  return a;
}

// What `put_norm` leaves, of slots that are still to be named.
inline Synchronized in_norms(Pack<float, 4>* norm, int64_t channels) {
  return {.first = &norm->value[1], .second = &norm->value[2], .apart = 4, .channels = channels};
}

}  // namespace pcdarts
