#include "relu_conv_bn/bind.h"
#include "relu_conv_bn/cpu.h"

namespace pcdarts {
namespace {

using std::vector;

std::tuple<Tensor, Tensor, Tensor> forward(int64_t processes, const Tensor& x,
                                           const vector<Tensor>& weights,
                                           const std::optional<Tensor>& running_mean,
                                           const std::optional<Tensor>& running_variance,
                                           int64_t stride, double eps, bool linear, bool plain) {
  const bool training = !running_mean.has_value();
  ReluConvBn p = problem(dtype_of(x), x, weights, stride, eps, training, linear, plain);
  p.processes = processes_of(processes);
  const ScalarType type = accumulate_type(p.dtype);
  const int64_t norms = training && !plain ? p.out_channels : 0;
  Tensor out = torch::stable::new_empty(x, {p.batch, p.out_channels, p.height, p.width});
  Tensor mean = torch::stable::new_empty(x, {norms}, type);
  Tensor variance = torch::stable::new_empty(x, {norms}, type);
  const vector<const void*> weight_data = addresses(weights);
  ReluConvBnForward args = {};
  args.x = x.const_data_ptr(), args.weights = weight_data.data();
  args.mean =
      training ? mean.mutable_data_ptr() : const_cast<void*>(running_mean->const_data_ptr());
  args.variance = training ? variance.mutable_data_ptr()
                           : const_cast<void*>(running_variance->const_data_ptr());
  args.out = out.mutable_data_ptr();
  relu_conv_bn_kernels().forward(p, args, kThreads);
  return {out, mean, variance};
}

std::tuple<Tensor, Tensor> backward(int64_t processes, const Tensor& grad_out, const Tensor& x,
                                    const vector<Tensor>& weights, const Tensor& out,
                                    const Tensor& variance, int64_t stride, double eps,
                                    bool training, bool need_x, bool need_weights, bool linear,
                                    bool plain) {
  ReluConvBn p = problem(dtype_of(x), x, weights, stride, eps, training, linear, plain);
  p.processes = processes_of(processes);
  Tensor grad_x = need_x ? torch::stable::new_empty(x, {x.size(0), x.size(1), x.size(2), x.size(3)})
                         : torch::stable::new_empty(x, {0});
  const int64_t elements = need_weights ? elements_of(weights) : 0;
  Tensor grad_weights = torch::stable::new_empty(x, {elements}, accumulate_type(p.dtype));
  const vector<const void*> weight_data = addresses(weights);
  const vector<void*> grad_weight_data =
      need_weights ? parts_of(grad_weights, weights) : vector<void*>{};
  ReluConvBnBackward args = {};
  args.forward.x = x.const_data_ptr(), args.forward.weights = weight_data.data();
  args.forward.variance = const_cast<void*>(variance.const_data_ptr());
  args.forward.out = const_cast<void*>(out.const_data_ptr());
  args.grad_out = grad_out.const_data_ptr();
  args.grad_x = need_x ? grad_x.mutable_data_ptr() : nullptr;
  args.grad_weights = need_weights ? grad_weight_data.data() : nullptr;
  relu_conv_bn_kernels().backward(p, args, kThreads);
  return {grad_x, grad_weights};
}

}  // namespace
}  // namespace pcdarts

STABLE_TORCH_LIBRARY_IMPL(pcdarts_cpu, CPU, m) {
  m.impl("relu_conv_bn_fwd", TORCH_BOX(&pcdarts::Alone<pcdarts::forward>::call));
  m.impl("relu_conv_bn_bwd", TORCH_BOX(&pcdarts::Alone<pcdarts::backward>::call));
  m.impl("synchronized_relu_conv_bn_fwd", TORCH_BOX(&pcdarts::forward));
  m.impl("synchronized_relu_conv_bn_bwd", TORCH_BOX(&pcdarts::backward));
}
