#include "common/bind_cuda.h"
#include "mixed_cell/bind.h"
#include "mixed_cell/cuda.h"

namespace pcdarts {
namespace {

using std::vector;

std::tuple<Tensor, Tensor, Tensor, Tensor> forward(
    const vector<Tensor>& inputs, const Tensor& alpha, const Tensor& beta,
    const vector<Tensor>& weights, const std::optional<Tensor>& running_mean,
    const std::optional<Tensor>& running_variance, const vector<int64_t>& primitives, int64_t nodes,
    int64_t k, int64_t stride, const vector<int64_t>& source, const vector<int64_t>& destination,
    double eps, bool store) {
  const Tensor& x = inputs[0];
  const CudaScope scope(x);
  const bool training = !running_mean.has_value();
  const MixedCell p = problem(storage_of(x), inputs, weights, primitives, nodes, k, stride, source,
                              destination, eps, training);
  const int64_t slots = training ? edge_offsets(p, edge_count(p)).slots : 0;
  Tensor out = torch::stable::new_empty(x, {p.batch, p.nodes * p.channels, p.height, p.width});
  Tensor mean = torch::stable::new_empty(alpha, {slots, p.sampled});
  Tensor variance = torch::stable::new_empty(alpha, {slots, p.sampled});
  Tensor z = torch::stable::new_empty(alpha, {store ? cuda_z_size(p) : 0});
  Tensor scratch = scratch_of(x, cuda_forward_scratch(p, z.numel() > 0));
  const vector<const void*> input_data = addresses(inputs), weight_data = addresses(weights);
  MixedCellForward args = {};
  args.inputs = input_data.data(), args.weights = weight_data.data();
  args.alpha = alpha.const_data_ptr(), args.beta = beta.const_data_ptr();
  args.mean =
      training ? mean.mutable_data_ptr() : const_cast<void*>(running_mean->const_data_ptr());
  args.variance = training ? variance.mutable_data_ptr()
                           : const_cast<void*>(running_variance->const_data_ptr());
  args.z = z.numel() > 0 ? z.mutable_data_ptr() : nullptr;
  args.out = out.mutable_data_ptr();
  cuda_forward(p, args, scratch.mutable_data_ptr(), scope.stream);
  return {out, mean, variance, z};
}

std::tuple<vector<Tensor>, Tensor, Tensor, Tensor> backward(
    const Tensor& grad_out, const vector<Tensor>& inputs, const Tensor& alpha, const Tensor& beta,
    const vector<Tensor>& weights, const Tensor& mean, const Tensor& variance, const Tensor& out,
    const Tensor& z, const vector<int64_t>& primitives, int64_t nodes, int64_t k, int64_t stride,
    const vector<int64_t>& source, const vector<int64_t>& destination, double eps, bool training,
    const vector<int64_t>& need_inputs, bool need_weights, bool need_alpha, bool need_beta) {
  const CudaScope scope(grad_out);
  const MixedCell p = problem(storage_of(grad_out), inputs, weights, primitives, nodes, k, stride,
                              source, destination, eps, training);
  vector<Tensor> grad_inputs;
  vector<void*> grad_input_data;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Tensor& x = inputs[i];
    grad_inputs.push_back(
        need_inputs[i] ? torch::stable::new_empty(x, {x.size(0), x.size(1), x.size(2), x.size(3)})
                       : torch::stable::new_empty(x, {0}));
    grad_input_data.push_back(need_inputs[i] ? grad_inputs[i].mutable_data_ptr() : nullptr);
  }
  const int64_t elements = need_weights ? elements_of(weights) : 0;
  Tensor grad_weights = torch::stable::new_empty(alpha, {elements});
  const vector<void*> grad_weight_data =
      need_weights ? parts_of(grad_weights, weights) : vector<void*>{};
  Tensor grad_alpha =
      torch::stable::new_empty(alpha, {need_alpha ? alpha.size(0) : 0, alpha.size(1)});
  if (!need_alpha) grad_alpha = torch::stable::new_empty(alpha, {0});
  Tensor grad_beta = torch::stable::new_empty(alpha, {need_beta ? beta.size(0) : 0});
  Tensor scratch = scratch_of(grad_out, cuda_backward_scratch(p, need_weights));
  const vector<const void*> input_data = addresses(inputs), weight_data = addresses(weights);
  MixedCellBackward args = {};
  args.forward.inputs = input_data.data(), args.forward.weights = weight_data.data();
  args.forward.alpha = alpha.const_data_ptr(), args.forward.beta = beta.const_data_ptr();
  args.forward.mean = const_cast<void*>(mean.const_data_ptr());
  args.forward.variance = const_cast<void*>(variance.const_data_ptr());
  args.forward.z = z.numel() > 0 ? const_cast<void*>(z.const_data_ptr()) : nullptr;
  args.forward.out = const_cast<void*>(out.const_data_ptr());
  args.grad_out = grad_out.const_data_ptr();
  args.grad_inputs = grad_input_data.data();
  args.grad_weights = need_weights ? grad_weight_data.data() : nullptr;
  args.grad_alpha = need_alpha ? grad_alpha.mutable_data_ptr() : nullptr;
  args.grad_beta = need_beta ? grad_beta.mutable_data_ptr() : nullptr;
  cuda_backward(p, args, scratch.mutable_data_ptr(), scope.stream);
  return {grad_inputs, grad_weights, grad_alpha, grad_beta};
}

}  // namespace
}  // namespace pcdarts

PCDARTS_CUDA_LIBRARY(m) {
  m.impl("mixed_cell_fwd", TORCH_BOX(&pcdarts::forward));
  m.impl("mixed_cell_bwd", TORCH_BOX(&pcdarts::backward));
}
