#include "partial_mix/bind.h"
#include "partial_mix/cpu.h"

namespace pcdarts {
namespace {

using std::vector;
constexpr int64_t kGrainElements = 8192;  // below this a thread costs more than it gives

int64_t grain(const PartialMix& p) { return 1 + kGrainElements / (1 + p.height * p.width); }

Tensor forward(const vector<Tensor>& outputs, const Tensor& weights, const Tensor& x, int64_t k,
               int64_t stride, const vector<int64_t>& source, const vector<int64_t>& destination) {
  const int64_t channels = x.size(1), height = x.size(2) / stride, width = x.size(3) / stride;
  const int64_t count = static_cast<int64_t>(outputs.size());
  const PartialMix p =
      problem(dtype_of(x), x, channels, height, width, count, k, stride, source, destination);
  const Tensor x_dense = with_contiguous_planes(x);
  const vector<Tensor> outputs_dense = with_contiguous_planes(outputs);
  const Planes x_planes = planes_of(x_dense);
  const vector<Planes> output_planes = planes_of(x, outputs_dense);
  const vector<double> weight = doubles_of(weights);
  Tensor out = new_empty(x, {p.batch, channels, height, width});
  void* out_data = out.mutable_data_ptr();
  const PartialMixKernels& kernels = partial_mix_kernels();
  torch::stable::parallel_for(0, p.batch * channels, grain(p), [&](int64_t begin, int64_t end) {
    kernels.forward(p, output_planes.data(), weight.data(), x_planes, out_data, begin, end);
  });
  return out;
}

std::tuple<vector<Tensor>, Tensor, Tensor> backward(
    const Tensor& grad, const vector<Tensor>& outputs, const Tensor& weights,
    const std::optional<Tensor>& x, int64_t k, int64_t stride, const vector<int64_t>& source,
    const vector<int64_t>& destination, bool need_outputs, bool need_weights, bool need_x) {
  const int64_t channels = grad.size(1), height = grad.size(2), width = grad.size(3);
  const PartialMix p = problem(dtype_of(grad), grad, channels, height, width, weights.size(0), k,
                               stride, source, destination);
  const Tensor grad_dense = with_contiguous_planes(grad);
  const Planes grad_planes = planes_of(grad_dense);
  const vector<Tensor> outputs_dense = with_contiguous_planes(outputs);
  const vector<Planes> output_planes = planes_of(grad, outputs_dense);
  const vector<double> weight = doubles_of(weights);
  const bool reads_x = need_x && stride == 2;
  const Tensor x_dense = reads_x ? with_contiguous_planes(*x) : grad_dense;
  const Planes x_planes = planes_of(x_dense);
  Gradients result(p, grad, need_outputs, need_x);
  vector<double> partial(need_weights ? p.batch * p.mixed * p.outputs : 0);
  void* const grad_x = need_x ? result.x.mutable_data_ptr() : nullptr;
  const PartialMixKernels& kernels = partial_mix_kernels();
  torch::stable::parallel_for(0, p.batch * channels, grain(p), [&](int64_t begin, int64_t end) {
    kernels.backward(p, grad_planes, output_planes.data(), weight.data(), x_planes,
                     need_outputs ? result.output_data.data() : nullptr,
                     need_weights ? partial.data() : nullptr, grad_x, begin, end);
  });

  Tensor grad_weights = new_empty(weights, {need_weights ? p.outputs : 0});
  vector<double> sum(p.outputs);
  for (size_t j = 0; j < partial.size(); ++j) sum[j % p.outputs] += partial[j];
  if (need_weights) store_doubles(sum, grad_weights);
  return {result.outputs, grad_weights, result.x};
}

}  // namespace
}  // namespace pcdarts

STABLE_TORCH_LIBRARY_IMPL(pcdarts_cpu, CPU, m) {
  m.impl("partial_mix_fwd", TORCH_BOX(&pcdarts::forward));
  m.impl("partial_mix_bwd", TORCH_BOX(&pcdarts::backward));
}
