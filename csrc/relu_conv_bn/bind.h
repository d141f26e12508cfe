// How the bind files of relu_conv_bn read the operator's arguments.
#pragma once
#include "common/bind.h"
#include "relu_conv_bn/math.h"

namespace pcdarts {

// The public function (pcdarts_fast/ops/relu_conv_bn) has checked the shapes.
inline ReluConvBn problem(DType dtype, const Tensor& x, const std::vector<Tensor>& weights,
                          int64_t stride, double eps, bool training, bool linear, bool plain) {
  ReluConvBn p = {};
  p.dtype = dtype;
  p.batch = x.size(0), p.in_channels = x.size(1);
  p.height = x.size(2) / stride, p.width = x.size(3) / stride, p.stride = static_cast<int>(stride);
  for (const Tensor& weight : weights) p.out_channels += weight.size(0);
  p.first = weights[0].size(0);
  p.training = training, p.eps = eps, p.linear = linear, p.plain = plain;
  return p;
}

}  // namespace pcdarts
