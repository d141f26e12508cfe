// What the bind files of update_running refuse, before anything is written.
#pragma once
#include "common/bind.h"

namespace pcdarts {

// The buffers of N batch-norms of the batch's [N, C].
inline void check_buffers(const std::vector<Tensor>& running_mean,
                          const std::vector<Tensor>& running_variance,
                          const std::vector<Tensor>& batches, const Tensor& mean) {
  const int64_t channels = mean.size(1);
  for (const std::vector<Tensor>* running : {&running_mean, &running_variance}) {
    for (const Tensor& values : *running) {
      STD_TORCH_CHECK(values.numel() == channels && values.is_contiguous(),
                      "update_running: running statistics of ", values.numel(),
                      " channels, wanted ", channels, ", contiguous");
    }
  }
  for (const Tensor& count : batches) {
    STD_TORCH_CHECK(count.scalar_type() == ScalarType::Long,
                    "update_running: num_batches_tracked must be int64");
  }
}

}  // namespace pcdarts
