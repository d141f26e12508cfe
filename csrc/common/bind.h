// What bind.cpp files share: the way from torch's tensors to the kernels' plain structs.
// Only bind.cpp files include this; everything else in csrc/ knows no torch.
#pragma once
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <cstdint>
#include <vector>

#include "common/dtype.h"
#include "common/planes.h"

namespace pcdarts {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline DType dtype_of(const Tensor& tensor) {
  const ScalarType type = tensor.scalar_type();
  STD_TORCH_CHECK(
      type == ScalarType::Float || type == ScalarType::Double || type == ScalarType::BFloat16,
      "expected float32, float64 or bfloat16");
  return type == ScalarType::Float    ? DType::float32
         : type == ScalarType::Double ? DType::float64
                                      : DType::bfloat16;
}

// The tensor itself where its planes are contiguous, else a contiguous copy.
inline Tensor with_contiguous_planes(const Tensor& tensor) {
  const bool rows = tensor.size(3) == 1 || tensor.stride(3) == 1;
  const bool planes = tensor.size(2) == 1 || tensor.stride(2) == tensor.size(3);
  return rows && planes ? tensor : torch::stable::contiguous(tensor);
}

inline Planes planes_of(const Tensor& tensor) {
  return {tensor.const_data_ptr(), tensor.stride(0), tensor.stride(1)};
}

// A handful of parameters, in the widest type.
inline std::vector<double> doubles_of(const Tensor& parameters) {
  const Tensor dense = torch::stable::contiguous(parameters);
  std::vector<double> values(dense.numel());
  with_element_type(dtype_of(dense), [&]<class T>() {
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = load(static_cast<const T*>(dense.const_data_ptr()) + i);
    }
  });
  return values;
}

inline void store_doubles(const std::vector<double>& values, Tensor& parameters) {
  with_element_type(dtype_of(parameters), [&]<class T>() {
    for (size_t i = 0; i < values.size(); ++i) {
      store(static_cast<T*>(parameters.mutable_data_ptr()) + i,
            static_cast<Accumulate<T>>(values[i]));
    }
  });
}

}  // namespace pcdarts
