// What the bind files of update_running refuse, before anything is written.
#pragma once
#include "common/bind.h"

namespace pcdarts {

// The buffers of N batch-norms, N > 0, and the batch's mean and variance [N, C].
inline void check_buffers(const std::vector<Tensor>& running_mean,
                          const std::vector<Tensor>& running_variance,
                          const std::vector<Tensor>& batches, const Tensor& mean,
                          const Tensor& variance, int64_t count) {
  const int64_t norms = static_cast<int64_t>(running_mean.size()), channels = mean.size(1);
  STD_TORCH_CHECK(count > 1, "update_running: got ", count,
                  " values a channel, wanted more than 1");
  STD_TORCH_CHECK(running_variance.size() == running_mean.size() && mean.size(0) == norms &&
                      batches.size() <= running_mean.size(),
                  "update_running: got ", norms, " running means, ", running_variance.size(),
                  " variances, ", batches.size(), " counts and ", mean.size(0),
                  " batch statistics, wanted as many of each");
  for (const Tensor* own : {&mean, &variance}) {
    check_device(mean, *own);
    STD_TORCH_CHECK(own->numel() == norms * channels && own->is_contiguous() &&
                        own->scalar_type() == mean.scalar_type(),
                    "update_running: the batch's mean and variance must be contiguous, of one "
                    "shape and dtype");
  }
  const ScalarType type = running_mean[0].scalar_type();
  for (const std::vector<Tensor>* running : {&running_mean, &running_variance}) {
    for (const Tensor& values : *running) {
      check_device(mean, values);
      STD_TORCH_CHECK(
          values.numel() == channels && values.is_contiguous() && values.scalar_type() == type,
          "update_running: running statistics of ", values.numel(), " channels, wanted ", channels,
          ", contiguous, all of one dtype");
    }
  }
  for (const Tensor& number : batches) {
    check_device(mean, number);
    STD_TORCH_CHECK(number.scalar_type() == ScalarType::Long && number.numel() == 1,
                    "update_running: num_batches_tracked must be an int64");
  }
}

// The biased variance of `count` values times this is the unbiased one.
inline double unbiased_factor(int64_t count) {
  return static_cast<double>(count) / static_cast<double>(count - 1);
}

}  // namespace pcdarts
