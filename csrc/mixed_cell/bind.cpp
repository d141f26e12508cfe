#include "mixed_cell/bind.h"

#include "mixed_cell/bind_cpu.h"

namespace pcdarts {

using std::vector;

std::tuple<Tensor, Tensor, Tensor, Tensor> mixed_cell_forward(
    int64_t processes, const vector<Tensor>& inputs, const Tensor& alpha, const Tensor& beta,
    const vector<Tensor>& weights, const std::optional<Tensor>& running_mean,
    const std::optional<Tensor>& running_variance, const vector<int64_t>& primitives, int64_t nodes,
    int64_t k, int64_t stride, const vector<int64_t>& source, const vector<int64_t>& destination,
    double eps, bool store) {
  MixedCell p = problem(dtype_of(inputs[0]), inputs, weights, primitives, nodes, k, stride, source,
                        destination, eps, !running_mean.has_value());
  p.processes = processes_of(processes);
  const MixedCellKernels& kernels = mixed_cell_kernels();
  ForwardCall call(p, inputs, alpha, beta, weights, running_mean, running_variance,
                   store ? kernels.z_size(p) : 0);
  kernels.forward(p, call.args, kThreads);
  return {call.out, call.mean, call.variance, call.z};
}

std::tuple<vector<Tensor>, vector<Tensor>, Tensor, Tensor> mixed_cell_backward(
    int64_t processes, const Tensor& grad_out, const vector<Tensor>& inputs, const Tensor& alpha,
    const Tensor& beta, const vector<Tensor>& weights, const Tensor& mean, const Tensor& variance,
    const Tensor& out, const Tensor& z, const vector<int64_t>& primitives, int64_t nodes, int64_t k,
    int64_t stride, const vector<int64_t>& source, const vector<int64_t>& destination, double eps,
    bool training, const vector<int64_t>& need_inputs, bool need_weights, bool need_alpha,
    bool need_beta) {
  MixedCell p = problem(dtype_of(inputs[0]), inputs, weights, primitives, nodes, k, stride, source,
                        destination, eps, training);
  p.processes = processes_of(processes);
  BackwardCall call(p, grad_out, inputs, alpha, beta, weights, mean, variance, out, z, need_inputs,
                    need_weights, need_alpha, need_beta);
  mixed_cell_kernels().backward(p, call.args, kThreads);
  return {call.grad_inputs, call.grad_weights, call.grad_alpha, call.grad_beta};
}

}  // namespace pcdarts

STABLE_TORCH_LIBRARY_IMPL(pcdarts_cpu, CPU, m) {
  m.impl("mixed_cell_fwd", TORCH_BOX(&pcdarts::Alone<pcdarts::mixed_cell_forward>::call));
  m.impl("mixed_cell_bwd", TORCH_BOX(&pcdarts::Alone<pcdarts::mixed_cell_backward>::call));
  m.impl("synchronized_mixed_cell_fwd", TORCH_BOX(&pcdarts::mixed_cell_forward));
  m.impl("synchronized_mixed_cell_bwd", TORCH_BOX(&pcdarts::mixed_cell_backward));
}
