#include "common/bind_cuda.h"
#include "update_running/bind.h"
#include "update_running/cuda.h"

namespace pcdarts {
namespace {

using std::vector;

void update_running(const vector<Tensor>& running_mean, const vector<Tensor>& running_variance,
                    const vector<Tensor>& batches, const Tensor& mean, const Tensor& variance,
                    int64_t count, double momentum) {
  if (running_mean.empty()) return;
  const CudaScope scope(mean);
  STD_TORCH_CHECK(mean.scalar_type() == ScalarType::Float,
                  "update_running: the batch's statistics must be float32");
  check_buffers(running_mean, running_variance, batches, mean, variance, count);
  vector<RunningNorm> norms;
  for (size_t i = 0; i < running_mean.size(); ++i) {
    Tensor to_mean = running_mean[i], to_variance = running_variance[i];
    RunningNorm norm = {to_mean.mutable_data_ptr(), to_variance.mutable_data_ptr(), nullptr};
    if (i < batches.size()) {
      Tensor number = batches[i];
      norm.batches = static_cast<int64_t*>(number.mutable_data_ptr());
    }
    norms.push_back(norm);
  }
  cuda_update_running(storage_of(running_mean[0]), norms, running_mean[0].numel(),
                      static_cast<const float*>(mean.const_data_ptr()),
                      static_cast<const float*>(variance.const_data_ptr()),
                      static_cast<float>(unbiased_factor(count)), static_cast<float>(momentum),
                      scope.stream);
}

}  // namespace
}  // namespace pcdarts

PCDARTS_CUDA_LIBRARY(m) { m.impl("update_running_", TORCH_BOX(&pcdarts::update_running)); }
