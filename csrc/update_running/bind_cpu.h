// The operator on the CPU as a C++ function: bind.cpp gives it to the dispatcher, bind_direct.cpp
// calls it from the library beside.
#pragma once
#include "common/bind.h"

namespace pcdarts {

PCDARTS_EXPORT void update_running(const std::vector<Tensor>& running_mean,
                                   const std::vector<Tensor>& running_variance,
                                   const std::vector<Tensor>& batches, const Tensor& mean,
                                   const Tensor& variance, int64_t count, double momentum);

}  // namespace pcdarts
