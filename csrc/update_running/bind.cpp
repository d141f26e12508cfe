// update_running: what nn.BatchNorm2d does to its buffers in training, for many of them at once. A
// few scalars a batch-norm: there is no kernel, the loop is all there is to it.
#include "update_running/bind.h"

#include "update_running/bind_cpu.h"

namespace pcdarts {
namespace {

using std::vector;

template <class T, class A>
void lerp(Tensor& running, const A* batch, double scale, double momentum) {
  T* to = static_cast<T*>(running.mutable_data_ptr());
  for (int64_t i = 0; i < running.numel(); ++i) {
    const A old = load(to + i);
    store(to + i, old + static_cast<A>(momentum) * (static_cast<A>(scale) * batch[i] - old));
  }
}

void update(const vector<Tensor>& running, const Tensor& batch, double scale, double momentum) {
  const int64_t channels = running.empty() ? 0 : running[0].numel();
  for (size_t i = 0; i < running.size(); ++i) {
    Tensor to = running[i];
    with_element_type(dtype_of(to), [&]<class T>() {
      with_element_type(dtype_of(batch), [&]<class A>() {
        if constexpr (sizeof(A) >= sizeof(Accumulate<T>)) {
          lerp<T>(to, static_cast<const A*>(batch.const_data_ptr()) + i * channels, scale,
                  momentum);
        }
      });
    });
  }
}

}  // namespace

void update_running(const vector<Tensor>& running_mean, const vector<Tensor>& running_variance,
                    const vector<Tensor>& batches, const Tensor& mean, const Tensor& variance,
                    int64_t count, double momentum) {
  if (running_mean.empty()) return;
  STD_TORCH_CHECK(
      mean.scalar_type() == ScalarType::Double || dtype_of(running_mean[0]) != DType::float64,
      "update_running: running statistics are float64, the batch's are not; bring module and input "
      "to one dtype");
  check_buffers(running_mean, running_variance, batches, mean, variance, count);
  update(running_mean, mean, 1, momentum);
  update(running_variance, variance, unbiased_factor(count), momentum);
  for (Tensor number : batches) ++*static_cast<int64_t*>(number.mutable_data_ptr());
}

}  // namespace pcdarts

STABLE_TORCH_LIBRARY_IMPL(pcdarts_cpu, CPU, m) {
  m.impl("update_running_", TORCH_BOX(&pcdarts::update_running));
}
