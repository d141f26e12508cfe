#include "relu_conv_bn/bind.h"

namespace pcdarts {
namespace {

using std::vector;

std::tuple<Tensor, Tensor, Tensor> forward(int64_t processes, const Tensor& x,
                                           const vector<Tensor>& weights,
                                           const std::optional<Tensor>& running_mean,
                                           const std::optional<Tensor>& running_variance,
                                           int64_t stride, double eps, bool linear, bool plain) {
  ReluConvBn p =
      problem(dtype_of(x), x, weights, stride, eps, !running_mean.has_value(), linear, plain);
  p.processes = processes_of(processes);
  ForwardCall call(p, x, weights, running_mean, running_variance);
  relu_conv_bn_kernels().forward(p, call.args, kThreads);
  return {call.out, call.mean, call.variance};
}

std::tuple<Tensor, vector<Tensor>> backward(int64_t processes, const Tensor& grad_out,
                                            const Tensor& x, const vector<Tensor>& weights,
                                            const Tensor& out, const Tensor& variance,
                                            int64_t stride, double eps, bool training, bool need_x,
                                            bool need_weights, bool linear, bool plain) {
  ReluConvBn p = problem(dtype_of(x), x, weights, stride, eps, training, linear, plain);
  p.processes = processes_of(processes);
  BackwardCall call(p, grad_out, x, weights, out, variance, need_x, need_weights);
  relu_conv_bn_kernels().backward(p, call.args, kThreads);
  return {call.grad_x, call.grad_weights};
}

}  // namespace
}  // namespace pcdarts

STABLE_TORCH_LIBRARY_IMPL(pcdarts_cpu, CPU, m) {
  m.impl("relu_conv_bn_fwd", TORCH_BOX(&pcdarts::Alone<pcdarts::forward>::call));
  m.impl("relu_conv_bn_bwd", TORCH_BOX(&pcdarts::Alone<pcdarts::backward>::call));
  m.impl("synchronized_relu_conv_bn_fwd", TORCH_BOX(&pcdarts::forward));
  m.impl("synchronized_relu_conv_bn_bwd", TORCH_BOX(&pcdarts::backward));
}
