// A block a batch-norm; their addresses travel in the kernel's arguments.
#include "update_running/cuda.h"

#include "common/memory.cuh"

namespace pcdarts {
namespace {

constexpr int kNorms = 128, kNormThreads = 64;

struct UpdateRunning {
  int64_t channels;
  const float *mean, *variance;
  float unbiased, momentum;
  RunningNorm norm[kNorms];
};

template <class S>
__global__ void __launch_bounds__(kNormThreads)
    update_running_kernel(const __grid_constant__ UpdateRunning a) {
  const RunningNorm& norm = a.norm[blockIdx.x];
  for (int64_t c = threadIdx.x; c < a.channels; c += kNormThreads) {
    const int64_t at = blockIdx.x * a.channels + c;
    S* const mean = static_cast<S*>(norm.mean) + c;
    S* const variance = static_cast<S*>(norm.variance) + c;
    const float old_mean = get_float(mean), old_variance = get_float(variance);
    put_float(mean, old_mean + a.momentum * (get(a.mean + at) - old_mean));
    put_float(variance,
              old_variance + a.momentum * (a.unbiased * get(a.variance + at) - old_variance));
  }
  if (threadIdx.x == 0 && norm.batches != nullptr) put(norm.batches, get(norm.batches) + 1);
}

}  // namespace

void cuda_update_running(DType dtype, const std::vector<RunningNorm>& norms, int64_t channels,
                         const float* mean, const float* variance, float unbiased, float momentum,
                         void* stream) {
  with_storage_type(dtype, [&]<class S>() {
    UpdateRunning a = {};
    a.channels = channels, a.unbiased = unbiased, a.momentum = momentum;
    for (size_t first = 0; first < norms.size(); first += kNorms) {
      const size_t left = norms.size() - first, count = left < kNorms ? left : kNorms;
      for (size_t i = 0; i < count; ++i) a.norm[i] = norms[first + i];
      const int64_t skipped = static_cast<int64_t>(first) * channels;
      a.mean = mean + skipped, a.variance = variance + skipped;
      launch(&update_running_kernel<S>, static_cast<unsigned>(count), kNormThreads, 0, stream, a);
    }
  });
}

}  // namespace pcdarts
