// How the bind files of relu_conv_bn read the operator's arguments and make its results.
#pragma once
#include "common/bind.h"
#include "relu_conv_bn/cpu.h"

namespace pcdarts {

// The public function (pcdarts_fast/ops/relu_conv_bn) has checked the shapes.
inline ReluConvBn problem(DType dtype, const Tensor& x, const std::vector<Tensor>& weights,
                          int64_t stride, double eps, bool training, bool linear, bool plain) {
  ReluConvBn p = {};
  p.dtype = dtype;
  p.batch = x.size(0), p.in_channels = x.size(1);
  p.height = x.size(2) / stride, p.width = x.size(3) / stride, p.stride = static_cast<int>(stride);
  for (const Tensor& weight : weights) p.out_channels += weight.size(0);
  p.even_outputs = weights[0].size(0);
  p.training = training, p.eps = eps, p.linear = linear, p.plain = plain;
  return p;
}

namespace {

// The results of a forward call, and its arguments, which point into them.
struct ForwardCall {
  Tensor out, mean, variance;
  std::vector<const void*> weights;
  ReluConvBnForward args;

  ForwardCall(const ForwardCall&) = delete;
  ForwardCall(const ReluConvBn& p, const Tensor& x, const std::vector<Tensor>& weights_,
              const std::optional<Tensor>& running_mean,
              const std::optional<Tensor>& running_variance)
      : weights(addresses(x, weights_)), args{} {
    check_running("relu_conv_bn", running_mean, running_variance, p.out_channels);
    const ScalarType type = accumulate_type(p.dtype);
    const int64_t norms = takes_statistics(p) ? p.out_channels : 0;
    out = new_empty(x, {p.batch, p.out_channels, p.height, p.width});
    mean = new_empty(x, {norms}, type);
    variance = new_empty(x, {norms}, type);
    args.x = x.const_data_ptr(), args.weights = weights.data();
    args.mean = moments_data(mean, running_mean);
    args.variance = moments_data(variance, running_variance);
    args.out = out.mutable_data_ptr();
  }
};

// The same of a backward call.
struct BackwardCall {
  Tensor grad_x;
  std::vector<Tensor> grad_weights;
  std::vector<const void*> weights;
  std::vector<void*> grad_weight_data;
  ReluConvBnBackward args;

  BackwardCall(const BackwardCall&) = delete;
  BackwardCall(const ReluConvBn& p, const Tensor& grad_out, const Tensor& x,
               const std::vector<Tensor>& weights_, const Tensor& out, const Tensor& variance,
               bool need_x, bool need_weights)
      : grad_x(empty_like_if(need_x, x)), weights(addresses(x, weights_)), args{} {
    grad_weights = empty_likes_if(need_weights, weights_, accumulate_type(p.dtype));
    grad_weight_data = addresses_to_write(grad_weights);
    args.forward.x = x.const_data_ptr(), args.forward.weights = weights.data();
    args.forward.variance = const_cast<void*>(variance.const_data_ptr());
    args.forward.out = const_cast<void*>(out.const_data_ptr());
    args.grad_out = grad_out.const_data_ptr();
    args.grad_x = need_x ? grad_x.mutable_data_ptr() : nullptr;
    args.grad_weights = need_weights ? grad_weight_data.data() : nullptr;
  }
};

}  // namespace
}  // namespace pcdarts
