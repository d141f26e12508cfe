#include "mixed_cell/bind.h"
#include "mixed_cell/cpu.h"

namespace pcdarts {
namespace {

using std::vector;

std::tuple<Tensor, Tensor, Tensor, Tensor> forward(
    int64_t processes, const vector<Tensor>& inputs, const Tensor& alpha, const Tensor& beta,
    const vector<Tensor>& weights, const std::optional<Tensor>& running_mean,
    const std::optional<Tensor>& running_variance, const vector<int64_t>& primitives, int64_t nodes,
    int64_t k, int64_t stride, const vector<int64_t>& source, const vector<int64_t>& destination,
    double eps, bool store) {
  const bool training = !running_mean.has_value();
  MixedCell p = problem(dtype_of(inputs[0]), inputs, weights, primitives, nodes, k, stride, source,
                        destination, eps, training);
  p.processes = processes_of(processes);
  const MixedCellKernels& kernels = mixed_cell_kernels();
  const ScalarType type = accumulate_type(p.dtype);
  const int64_t slots = training ? edge_offsets(p, edge_count(p)).slots : 0;
  Tensor out =
      torch::stable::new_empty(inputs[0], {p.batch, p.nodes * p.channels, p.height, p.width});
  Tensor mean = torch::stable::new_empty(alpha, {slots, p.sampled}, type);
  Tensor variance = torch::stable::new_empty(alpha, {slots, p.sampled}, type);
  Tensor z = torch::stable::new_empty(alpha, {store ? kernels.z_size(p) : 0}, type);
  const vector<const void*> input_data = addresses(inputs), weight_data = addresses(weights);
  MixedCellForward args = {};
  args.inputs = input_data.data(), args.weights = weight_data.data();
  args.alpha = alpha.const_data_ptr(), args.beta = beta.const_data_ptr();
  args.mean =
      training ? mean.mutable_data_ptr() : const_cast<void*>(running_mean->const_data_ptr());
  args.variance = training ? variance.mutable_data_ptr()
                           : const_cast<void*>(running_variance->const_data_ptr());
  args.z = store ? z.mutable_data_ptr() : nullptr;
  args.out = out.mutable_data_ptr();
  kernels.forward(p, args, kThreads);
  return {out, mean, variance, z};
}

std::tuple<vector<Tensor>, Tensor, Tensor, Tensor> backward(
    int64_t processes, const Tensor& grad_out, const vector<Tensor>& inputs, const Tensor& alpha,
    const Tensor& beta, const vector<Tensor>& weights, const Tensor& mean, const Tensor& variance,
    const Tensor& out, const Tensor& z, const vector<int64_t>& primitives, int64_t nodes, int64_t k,
    int64_t stride, const vector<int64_t>& source, const vector<int64_t>& destination, double eps,
    bool training, const vector<int64_t>& need_inputs, bool need_weights, bool need_alpha,
    bool need_beta) {
  MixedCell p = problem(dtype_of(inputs[0]), inputs, weights, primitives, nodes, k, stride, source,
                        destination, eps, training);
  p.processes = processes_of(processes);
  vector<Tensor> grad_inputs;
  vector<void*> grad_input_data;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Tensor& x = inputs[i];
    grad_inputs.push_back(
        need_inputs[i] ? torch::stable::new_empty(x, {x.size(0), x.size(1), x.size(2), x.size(3)})
                       : torch::stable::new_empty(x, {0}));
    grad_input_data.push_back(need_inputs[i] ? grad_inputs[i].mutable_data_ptr() : nullptr);
  }
  const ScalarType type = accumulate_type(p.dtype);
  const int64_t elements = need_weights ? elements_of(weights) : 0;
  Tensor grad_weights = torch::stable::new_empty(alpha, {elements}, type);
  const vector<void*> grad_weight_data =
      need_weights ? parts_of(grad_weights, weights) : vector<void*>{};
  Tensor grad_alpha = need_alpha ? torch::stable::new_zeros(alpha, {alpha.size(0), alpha.size(1)})
                                 : torch::stable::new_empty(alpha, {0});
  Tensor grad_beta = torch::stable::new_empty(alpha, {need_beta ? beta.size(0) : 0});
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
  mixed_cell_kernels().backward(p, args, kThreads);
  return {grad_inputs, grad_weights, grad_alpha, grad_beta};
}

}  // namespace
}  // namespace pcdarts

STABLE_TORCH_LIBRARY_IMPL(pcdarts_cpu, CPU, m) {
  m.impl("mixed_cell_fwd", TORCH_BOX(&pcdarts::Alone<pcdarts::forward>::call));
  m.impl("mixed_cell_bwd", TORCH_BOX(&pcdarts::Alone<pcdarts::backward>::call));
  m.impl("synchronized_mixed_cell_fwd", TORCH_BOX(&pcdarts::forward));
  m.impl("synchronized_mixed_cell_bwd", TORCH_BOX(&pcdarts::backward));
}
