// How the bind files of partial_mix read the operator's arguments and make its results.
#pragma once
#include "common/bind.h"
#include "partial_mix/math.h"

namespace pcdarts {

// The public function (pcdarts_fast/ops/partial_mix) has checked the shapes.
inline PartialMix problem(DType dtype, const Tensor& like, int64_t channels, int64_t height,
                          int64_t width, int64_t outputs, int64_t k, int64_t stride,
                          const std::vector<int64_t>& source,
                          const std::vector<int64_t>& destination) {
  return {dtype, like.size(0), channels, channels / k,  height,
          width, stride,       outputs,  source.data(), destination.data()};
}

inline std::vector<Tensor> with_contiguous_planes(const std::vector<Tensor>& tensors) {
  std::vector<Tensor> result;
  for (const Tensor& tensor : tensors) result.push_back(with_contiguous_planes(tensor));
  return result;
}

// Of tensors that a kernel of x reads.
inline std::vector<Planes> planes_of(const Tensor& x, const std::vector<Tensor>& tensors) {
  std::vector<Planes> result;
  for (const Tensor& tensor : tensors) {
    check_device(x, tensor);
    result.push_back(planes_of(tensor));
  }
  return result;
}

// The gradients of one backward call but for the weights'; empty where they are not needed.
struct Gradients {
  std::vector<Tensor> outputs;
  std::vector<void*> output_data;
  Tensor x;

  Gradients(const PartialMix& p, const Tensor& grad, bool need_outputs, bool need_x)
      : x(need_x ? new_empty(grad, {p.batch, p.channels, p.height * p.stride, p.width * p.stride})
                 : new_empty(grad, {0})) {
    for (int64_t i = 0; need_outputs && i < p.outputs; ++i) {
      outputs.push_back(new_empty(grad, {p.batch, p.mixed, p.height, p.width}));
      output_data.push_back(outputs.back().mutable_data_ptr());
    }
  }
};

}  // namespace pcdarts
