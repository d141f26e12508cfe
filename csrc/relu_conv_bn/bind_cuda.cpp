#include "common/bind_cuda.h"
#include "relu_conv_bn/bind.h"
#include "relu_conv_bn/cuda.h"

namespace pcdarts {
namespace {

using std::vector;

std::tuple<Tensor, Tensor, Tensor> forward(const Tensor& x, const vector<Tensor>& weights,
                                           const std::optional<Tensor>& running_mean,
                                           const std::optional<Tensor>& running_variance,
                                           int64_t stride, double eps, bool linear, bool plain) {
  const CudaScope scope(x);
  const bool training = !running_mean.has_value();
  const ReluConvBn p = problem(storage_of(x), x, weights, stride, eps, training, linear, plain);
  const int64_t norms = training && !plain ? p.out_channels : 0;
  Tensor out = torch::stable::new_empty(x, {p.batch, p.out_channels, p.height, p.width});
  Tensor mean = torch::stable::new_empty(x, {norms}, ScalarType::Float);
  Tensor variance = torch::stable::new_empty(x, {norms}, ScalarType::Float);
  const vector<const void*> weight_data = addresses(weights);
  ReluConvBnForward args = {};
  args.x = x.const_data_ptr(), args.weights = weight_data.data();
  args.mean =
      training ? mean.mutable_data_ptr() : const_cast<void*>(running_mean->const_data_ptr());
  args.variance = training ? variance.mutable_data_ptr()
                           : const_cast<void*>(running_variance->const_data_ptr());
  args.out = out.mutable_data_ptr();
  Tensor scratch = scratch_of(x, cuda_relu_conv_bn_forward_scratch(p));
  cuda_relu_conv_bn_forward(p, args, scratch.mutable_data_ptr(), scope.stream);
  return {out, mean, variance};
}

std::tuple<Tensor, Tensor> backward(const Tensor& grad_out, const Tensor& x,
                                    const vector<Tensor>& weights, const Tensor& out,
                                    const Tensor& variance, int64_t stride, double eps,
                                    bool training, bool need_x, bool need_weights, bool linear,
                                    bool plain) {
  const CudaScope scope(x);
  const ReluConvBn p = problem(storage_of(x), x, weights, stride, eps, training, linear, plain);
  Tensor grad_x = need_x ? torch::stable::new_empty(x, {x.size(0), x.size(1), x.size(2), x.size(3)})
                         : torch::stable::new_empty(x, {0});
  const int64_t elements = need_weights ? elements_of(weights) : 0;
  Tensor grad_weights = torch::stable::new_empty(x, {elements}, ScalarType::Float);
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
  Tensor scratch = scratch_of(x, cuda_relu_conv_bn_backward_scratch(p, need_weights));
  cuda_relu_conv_bn_backward(p, args, scratch.mutable_data_ptr(), scope.stream);
  return {grad_x, grad_weights};
}

}  // namespace
}  // namespace pcdarts

PCDARTS_CUDA_LIBRARY(m) {
  m.impl("relu_conv_bn_fwd", TORCH_BOX(&pcdarts::forward));
  m.impl("relu_conv_bn_bwd", TORCH_BOX(&pcdarts::backward));
}
