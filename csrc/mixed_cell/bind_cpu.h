// The operator on the CPU as C++ functions: bind.cpp gives them to the dispatcher, bind_direct.cpp
// calls them from the library beside.
#pragma once
#include <tuple>

#include "common/bind.h"

namespace pcdarts {

PCDARTS_EXPORT std::tuple<Tensor, Tensor, Tensor, Tensor> mixed_cell_forward(
    int64_t processes, const std::vector<Tensor>& inputs, const Tensor& alpha, const Tensor& beta,
    const std::vector<Tensor>& weights, const std::optional<Tensor>& running_mean,
    const std::optional<Tensor>& running_variance, const std::vector<int64_t>& primitives,
    int64_t nodes, int64_t k, int64_t stride, const std::vector<int64_t>& source,
    const std::vector<int64_t>& destination, double eps, bool store);

PCDARTS_EXPORT std::tuple<std::vector<Tensor>, std::vector<Tensor>, Tensor, Tensor>
mixed_cell_backward(int64_t processes, const Tensor& grad_out, const std::vector<Tensor>& inputs,
                    const Tensor& alpha, const Tensor& beta, const std::vector<Tensor>& weights,
                    const Tensor& mean, const Tensor& variance, const Tensor& out, const Tensor& z,
                    const std::vector<int64_t>& primitives, int64_t nodes, int64_t k,
                    int64_t stride, const std::vector<int64_t>& source,
                    const std::vector<int64_t>& destination, double eps, bool training,
                    const std::vector<int64_t>& need_inputs, bool need_weights, bool need_alpha,
                    bool need_beta);

}  // namespace pcdarts
