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
#include "common/parallel.h"
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

inline ScalarType accumulate_type(DType dtype) {
  return dtype == DType::float64 ? ScalarType::Double : ScalarType::Float;
}

inline std::vector<const void*> addresses(const std::vector<Tensor>& tensors) {
  std::vector<const void*> result;
  for (const Tensor& tensor : tensors) result.push_back(tensor.const_data_ptr());
  return result;
}

// The addresses of consecutive parts of one tensor, each as large as one of `like`.
inline std::vector<void*> parts_of(Tensor& flat, const std::vector<Tensor>& like) {
  std::vector<void*> result;
  char* data = static_cast<char*>(flat.mutable_data_ptr());
  const int64_t item = flat.scalar_type() == ScalarType::Double ? sizeof(double) : sizeof(float);
  for (const Tensor& tensor : like) {
    result.push_back(data);
    data += tensor.numel() * item;
  }
  return result;
}

inline int64_t elements_of(const std::vector<Tensor>& tensors) {
  int64_t elements = 0;
  for (const Tensor& tensor : tensors) elements += tensor.numel();
  return elements;
}

// torch's own threads: there is one pool.
inline constexpr Parallel kThreads = {
    [](int64_t count, void (*body)(void*, int64_t, int64_t), void* data) {
      torch::stable::parallel_for(0, count, 1,
                                  [&](int64_t begin, int64_t end) { body(data, begin, end); });
    }};

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
