// What bind_cuda.cpp files share. With PCDARTS_SIMULATOR the same kernels are registered for
// tensors in the CPU's memory and run there (tests/csrc/cusim.h).
#pragma once
#include "common/bind.h"

#ifdef PCDARTS_SIMULATOR
#define PCDARTS_CUDA_LIBRARY(m) STABLE_TORCH_LIBRARY_IMPL(pcdarts_cuda, CPU, m)
#else
#include <torch/csrc/stable/accelerator.h>
#define PCDARTS_CUDA_LIBRARY(m) STABLE_TORCH_LIBRARY_IMPL(pcdarts_cuda, CUDA, m)
#endif

namespace pcdarts {

// Makes the tensor's device current; `stream` is torch's current stream there.
class CudaScope {
 public:
#ifdef PCDARTS_SIMULATOR
  explicit CudaScope(const Tensor&) : stream(nullptr) {}
#else
  explicit CudaScope(const Tensor& tensor)
      : guard_(tensor.get_device_index()),
        stream(torch::stable::accelerator::getCurrentStream(tensor.get_device_index())
                   .nativeHandle()) {}

 private:
  torch::stable::accelerator::DeviceGuard guard_;

 public:
#endif
  void* const stream;
};

inline DType storage_of(const Tensor& tensor) {
  const ScalarType type = tensor.scalar_type();
  STD_TORCH_CHECK(
      type == ScalarType::Float || type == ScalarType::BFloat16 || type == ScalarType::Half,
      "the CUDA engine has float32, bfloat16 and float16 only");
  return type == ScalarType::Float      ? DType::float32
         : type == ScalarType::BFloat16 ? DType::bfloat16
                                        : DType::float16;
}

// Device memory from torch's caching allocator; the kernels use it in the order of the stream.
inline Tensor scratch_of(const Tensor& like, size_t bytes) {
  return new_empty(like, {static_cast<int64_t>(bytes)}, ScalarType::Byte);
}

}  // namespace pcdarts
