#include "common/bind_direct.h"
#include "relu_conv_bn/bind_cpu.h"

namespace pcdarts {
namespace {

namespace py = pybind11;
using std::vector;

// Result, mean, variance.
using Results = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

// Of x and the weights.
using Gradients = std::tuple<at::Tensor, variable_list>;

class ReluConvBnFunction : public torch::autograd::Function<ReluConvBnFunction> {
 public:
  // tensors: x, the weights.
  static variable_list forward(AutogradContext* ctx, double eps, BatchStatistics* batch,
                               at::TensorList tensors) {
    const at::TensorList weights = tensors.slice(1);
    const auto [out, mean, variance] = run_engine<Results>(
        "pcdarts_cpu::relu_conv_bn_fwd", relu_conv_bn_forward, tensors[0], weights, std::nullopt,
        std::nullopt, static_cast<int64_t>(weights.size()), eps, false, false);
    *batch = {mean, variance};
    variable_list saved = {out, variance};
    saved.insert(saved.end(), tensors.begin(), tensors.end());
    ctx->save_for_backward(std::move(saved));
    ctx->saved_data["eps"] = eps;
    ctx->set_materialize_grads(false);
    return {out};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    return once_differentiable(
        ctx, grads, /*others=*/2, /*kept=*/2,
        [ctx](const variable_list& saved, at::TensorList tensors, const at::Tensor& grad,
              at::Tensor* to) {
          const bool need_x = ctx->needs_input_grad(0);
          const at::ScalarType type = grad.scalar_type(), wide = accumulation_of(type);
          const variable_list weights = dense(tensors.slice(1), wide);
          const auto [grad_x, grad_weights] = run<Gradients>(
              "pcdarts_cpu::relu_conv_bn_bwd", relu_conv_bn_backward, dense(grad, type),
              dense(tensors[0], type), weights, dense(saved[0], type), dense(saved[1], wide),
              static_cast<int64_t>(weights.size()), ctx->saved_data["eps"].toDouble(), true, need_x,
              any_needs_gradient(*ctx, 1, tensors.size()), false, false);
          if (need_x) to[0] = grad_x;
          std::copy(grad_weights.begin(), grad_weights.end(), to + 1);
        });
  }
};

// Whether the public function (pcdarts_fast/ops/relu_conv_bn) would find no fault with them.
bool fits(const at::Tensor& x, at::TensorList weights) {
  const int64_t stride = static_cast<int64_t>(weights.size());
  if ((stride != 1 && stride != 2) || !is_state(x, stride)) return false;
  return std::all_of(weights.begin(), weights.end(), [&](const at::Tensor& weight) {
    return is_plain(weight, accumulation_of(x.scalar_type())) && weight.dim() == 4 &&
           weight.sizes() == at::IntArrayRef{weight.size(0), x.size(1), 1, 1};
  });
}

// A preprocessing in training, with its modules' own tables of parameters and buffers: one
// convolution, or two at stride 2. [B, C_out, H/stride, W/stride]; nothing, and nothing done, where
// this is no call for the direct way.
std::optional<at::Tensor> direct(const py::handle state, const py::list& convolutions,
                                 const py::list& norms, double eps, double momentum) {
  variable_list tensors;
  Running running;
  const bool complete = collect(state.ptr(), tensors) &&
                        collect(convolutions, names().weight, tensors) && collect(norms, running);
  if (!complete) return std::nullopt;
  const py::gil_scoped_release released;
  const at::Tensor& x = tensors[0];
  const auto weights = at::TensorList(tensors).slice(1);
  if (!is_unwatched() || !fits(x, weights) || !are_plain(running)) return std::nullopt;
  const int64_t stride = static_cast<int64_t>(weights.size());
  const int64_t count = x.numel() / x.size(1) / (stride * stride);
  if (count == 1) return std::nullopt;
  BatchStatistics batch;
  const at::Tensor out = ReluConvBnFunction::apply(eps, &batch, at::TensorList(tensors))[0];
  batch.mean = batch.mean.unsqueeze(0);  // [1, C_out]
  advance(running, batch, count, momentum);
  return out;
}

}  // namespace

void define_relu_conv_bn(py::module_& m) { m.def("relu_conv_bn", &direct); }

}  // namespace pcdarts
