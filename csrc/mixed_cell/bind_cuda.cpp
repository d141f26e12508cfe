#include "common/bind_cuda.h"
#include "mixed_cell/bind.h"
#include "mixed_cell/cuda.h"

namespace pcdarts {
namespace {

using std::vector;

std::tuple<Tensor, Tensor, Tensor, Tensor> forward(
    int64_t processes, const vector<Tensor>& inputs, const Tensor& alpha, const Tensor& beta,
    const vector<Tensor>& weights, const std::optional<Tensor>& running_mean,
    const std::optional<Tensor>& running_variance, const vector<int64_t>& primitives, int64_t nodes,
    int64_t k, int64_t stride, const vector<int64_t>& source, const vector<int64_t>& destination,
    double eps, bool store) {
  const CudaScope scope(inputs[0]);
  MixedCell p = problem(storage_of(inputs[0]), inputs, weights, primitives, nodes, k, stride,
                        source, destination, eps, !running_mean.has_value());
  p.processes = device_processes(processes);
  ForwardCall call(p, inputs, alpha, beta, weights, running_mean, running_variance,
                   store ? cuda_z_size(p) : 0);
  Tensor scratch = scratch_of(inputs[0], cuda_forward_scratch(p, call.args.z != nullptr));
  cuda_forward(p, call.args, scratch.mutable_data_ptr(), scope.stream);
  return {call.out, call.mean, call.variance, call.z};
}

std::tuple<vector<Tensor>, vector<Tensor>, Tensor, Tensor> backward(
    int64_t processes, const Tensor& grad_out, const vector<Tensor>& inputs, const Tensor& alpha,
    const Tensor& beta, const vector<Tensor>& weights, const Tensor& mean, const Tensor& variance,
    const Tensor& out, const Tensor& z, const vector<int64_t>& primitives, int64_t nodes, int64_t k,
    int64_t stride, const vector<int64_t>& source, const vector<int64_t>& destination, double eps,
    bool training, const vector<int64_t>& need_inputs, bool need_weights, bool need_alpha,
    bool need_beta) {
  const CudaScope scope(grad_out);
  MixedCell p = problem(storage_of(grad_out), inputs, weights, primitives, nodes, k, stride, source,
                        destination, eps, training);
  p.processes = device_processes(processes);
  BackwardCall call(p, grad_out, inputs, alpha, beta, weights, mean, variance, out, z, need_inputs,
                    need_weights, need_alpha, need_beta);
  Tensor scratch = scratch_of(grad_out, cuda_backward_scratch(p, need_weights));
  cuda_backward(p, call.args, scratch.mutable_data_ptr(), scope.stream);
  return {call.grad_inputs, call.grad_weights, call.grad_alpha, call.grad_beta};
}

}  // namespace
}  // namespace pcdarts

PCDARTS_CUDA_LIBRARY(m) {
  m.impl("mixed_cell_fwd", TORCH_BOX(&pcdarts::Alone<pcdarts::forward>::call));
  m.impl("mixed_cell_bwd", TORCH_BOX(&pcdarts::Alone<pcdarts::backward>::call));
  m.impl("synchronized_mixed_cell_fwd", TORCH_BOX(&pcdarts::forward));
  m.impl("synchronized_mixed_cell_bwd", TORCH_BOX(&pcdarts::backward));
}
