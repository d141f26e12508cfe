#include "common/bind_cuda.h"
#include "relu_conv_bn/bind.h"
#include "relu_conv_bn/cuda.h"

namespace pcdarts {
namespace {

using std::vector;

std::tuple<Tensor, Tensor, Tensor> forward(int64_t processes, const Tensor& x,
                                           const vector<Tensor>& weights,
                                           const std::optional<Tensor>& running_mean,
                                           const std::optional<Tensor>& running_variance,
                                           int64_t stride, double eps, bool linear, bool plain) {
  const CudaScope scope(x);
  ReluConvBn p =
      problem(storage_of(x), x, weights, stride, eps, !running_mean.has_value(), linear, plain);
  p.processes = device_processes(processes);
  ForwardCall call(p, x, weights, running_mean, running_variance);
  Tensor scratch = scratch_of(x, cuda_relu_conv_bn_forward_scratch(p));
  cuda_relu_conv_bn_forward(p, call.args, scratch.mutable_data_ptr(), scope.stream);
  return {call.out, call.mean, call.variance};
}

std::tuple<Tensor, vector<Tensor>> backward(int64_t processes, const Tensor& grad_out,
                                            const Tensor& x, const vector<Tensor>& weights,
                                            const Tensor& out, const Tensor& variance,
                                            int64_t stride, double eps, bool training, bool need_x,
                                            bool need_weights, bool linear, bool plain) {
  const CudaScope scope(x);
  ReluConvBn p = problem(storage_of(x), x, weights, stride, eps, training, linear, plain);
  p.processes = device_processes(processes);
  BackwardCall call(p, grad_out, x, weights, out, variance, need_x, need_weights);
  Tensor scratch = scratch_of(x, cuda_relu_conv_bn_backward_scratch(p, need_weights));
  cuda_relu_conv_bn_backward(p, call.args, scratch.mutable_data_ptr(), scope.stream);
  return {call.grad_x, call.grad_weights};
}

}  // namespace
}  // namespace pcdarts

PCDARTS_CUDA_LIBRARY(m) {
  m.impl("relu_conv_bn_fwd", TORCH_BOX(&pcdarts::Alone<pcdarts::forward>::call));
  m.impl("relu_conv_bn_bwd", TORCH_BOX(&pcdarts::Alone<pcdarts::backward>::call));
  m.impl("synchronized_relu_conv_bn_fwd", TORCH_BOX(&pcdarts::forward));
  m.impl("synchronized_relu_conv_bn_bwd", TORCH_BOX(&pcdarts::backward));
}
