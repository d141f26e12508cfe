#pragma once
#include <cstdint>
#include <vector>

#include "common/dtype.h"

namespace pcdarts {

struct RunningNorm {
  void *mean, *variance;  // [channels], of `dtype`
  int64_t* batches;       // null: not counted
};

// running = running + momentum * (batch - running), for all norms; mean and variance [norms,
// channels] in float32, the variance times `unbiased`. dtype: float32, bfloat16 or float16.
void cuda_update_running(DType dtype, const std::vector<RunningNorm>& norms, int64_t channels,
                         const float* mean, const float* variance, float unbiased, float momentum,
                         void* stream);

}  // namespace pcdarts
