#include "relu_conv_bn/bind.h"

#include "relu_conv_bn/bind_cpu.h"

namespace pcdarts {

using std::vector;

std::tuple<Tensor, Tensor, Tensor> relu_conv_bn_forward(
    int64_t processes, const Tensor& x, const vector<Tensor>& weights,
    const std::optional<Tensor>& running_mean, const std::optional<Tensor>& running_variance,
    int64_t stride, double eps, bool linear, bool plain) {
  ReluConvBn p =
      problem(dtype_of(x), x, weights, stride, eps, !running_mean.has_value(), linear, plain);
  p.processes = processes_of(processes);
  ForwardCall call(p, x, weights, running_mean, running_variance);
  relu_conv_bn_kernels().forward(p, call.args, kThreads);
  return {call.out, call.mean, call.variance};
}

std::tuple<Tensor, vector<Tensor>> relu_conv_bn_backward(
    int64_t processes, const Tensor& grad_out, const Tensor& x, const vector<Tensor>& weights,
    const Tensor& out, const Tensor& variance, int64_t stride, double eps, bool training,
    bool need_x, bool need_weights, bool linear, bool plain) {
  ReluConvBn p = problem(dtype_of(x), x, weights, stride, eps, training, linear, plain);
  p.processes = processes_of(processes);
  BackwardCall call(p, grad_out, x, weights, out, variance, need_x, need_weights);
  relu_conv_bn_kernels().backward(p, call.args, kThreads);
  return {call.grad_x, call.grad_weights};
}

}  // namespace pcdarts

STABLE_TORCH_LIBRARY_IMPL(pcdarts_cpu, CPU, m) {
  m.impl("relu_conv_bn_fwd", TORCH_BOX(&pcdarts::Alone<pcdarts::relu_conv_bn_forward>::call));
  m.impl("relu_conv_bn_bwd", TORCH_BOX(&pcdarts::Alone<pcdarts::relu_conv_bn_backward>::call));
  m.impl("synchronized_relu_conv_bn_fwd", TORCH_BOX(&pcdarts::relu_conv_bn_forward));
  m.impl("synchronized_relu_conv_bn_bwd", TORCH_BOX(&pcdarts::relu_conv_bn_backward));
}
