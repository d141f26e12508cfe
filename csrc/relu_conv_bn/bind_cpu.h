// The operator on the CPU as C++ functions: bind.cpp gives them to the dispatcher, bind_direct.cpp
// calls them from the library beside.
#pragma once
#include <tuple>

#include "common/bind.h"

namespace pcdarts {

PCDARTS_EXPORT std::tuple<Tensor, Tensor, Tensor> relu_conv_bn_forward(
    int64_t processes, const Tensor& x, const std::vector<Tensor>& weights,
    const std::optional<Tensor>& running_mean, const std::optional<Tensor>& running_variance,
    int64_t stride, double eps, bool linear, bool plain);

PCDARTS_EXPORT std::tuple<Tensor, std::vector<Tensor>> relu_conv_bn_backward(
    int64_t processes, const Tensor& grad_out, const Tensor& x, const std::vector<Tensor>& weights,
    const Tensor& out, const Tensor& variance, int64_t stride, double eps, bool training,
    bool need_x, bool need_weights, bool linear, bool plain);

}  // namespace pcdarts
