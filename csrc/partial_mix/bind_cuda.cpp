#include "common/bind_cuda.h"
#include "partial_mix/bind.h"
#include "partial_mix/cuda.h"

namespace pcdarts {
namespace {

using std::vector;

Tensor forward(const vector<Tensor>& outputs, const Tensor& weights, const Tensor& x, int64_t k,
               int64_t stride, const vector<int64_t>& source, const vector<int64_t>& destination) {
  const CudaScope scope(x);
  const int64_t channels = x.size(1), height = x.size(2) / stride, width = x.size(3) / stride;
  const int64_t count = static_cast<int64_t>(outputs.size());
  const PartialMix p =
      problem(storage_of(x), x, channels, height, width, count, k, stride, source, destination);
  const Tensor x_dense = with_contiguous_planes(x);
  const vector<Tensor> outputs_dense = with_contiguous_planes(outputs);
  const vector<Planes> output_planes = planes_of(x, outputs_dense);
  check_device(x, weights);
  const Tensor weight = torch::stable::contiguous(torch::stable::to(weights, ScalarType::Float));
  Tensor out = new_empty(x, {p.batch, channels, height, width});
  Tensor scratch = scratch_of(x, cuda_partial_mix_scratch(p));
  cuda_partial_mix_forward(p, output_planes.data(),
                           static_cast<const float*>(weight.const_data_ptr()), planes_of(x_dense),
                           out.mutable_data_ptr(), scratch.mutable_data_ptr(), scope.stream);
  return out;
}

std::tuple<vector<Tensor>, Tensor, Tensor> backward(
    const Tensor& grad, const vector<Tensor>& outputs, const Tensor& weights,
    const std::optional<Tensor>& x, int64_t k, int64_t stride, const vector<int64_t>& source,
    const vector<int64_t>& destination, bool need_outputs, bool need_weights, bool need_x) {
  const CudaScope scope(grad);
  const int64_t channels = grad.size(1), height = grad.size(2), width = grad.size(3);
  const PartialMix p = problem(storage_of(grad), grad, channels, height, width, weights.size(0), k,
                               stride, source, destination);
  const Tensor grad_dense = with_contiguous_planes(grad);
  const vector<Tensor> outputs_dense = with_contiguous_planes(outputs);
  const vector<Planes> output_planes = planes_of(grad, outputs_dense);
  check_device(grad, weights);
  const Tensor weight = torch::stable::contiguous(torch::stable::to(weights, ScalarType::Float));
  const bool reads_x = need_x && stride == 2;
  const Tensor x_dense = reads_x ? with_contiguous_planes(*x) : grad_dense;
  Gradients result(p, grad, need_outputs, need_x);
  Tensor sums = new_empty(grad, {need_weights ? p.outputs : 0}, ScalarType::Float);
  Tensor scratch = scratch_of(grad, cuda_partial_mix_scratch(p));
  cuda_partial_mix_backward(p, planes_of(grad_dense), output_planes.data(),
                            static_cast<const float*>(weight.const_data_ptr()), planes_of(x_dense),
                            need_outputs ? result.output_data.data() : nullptr,
                            need_weights ? static_cast<float*>(sums.mutable_data_ptr()) : nullptr,
                            need_x ? result.x.mutable_data_ptr() : nullptr,
                            scratch.mutable_data_ptr(), scope.stream);
  return {result.outputs, torch::stable::to(sums, weights.scalar_type()), result.x};
}

}  // namespace
}  // namespace pcdarts

PCDARTS_CUDA_LIBRARY(m) {
  m.impl("partial_mix_fwd", TORCH_BOX(&pcdarts::forward));
  m.impl("partial_mix_bwd", TORCH_BOX(&pcdarts::backward));
}
