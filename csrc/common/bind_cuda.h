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

// Floats in the memory of the current device, as a tensor.
inline Tensor wrapped(const float* data, int64_t size) {
#ifdef PCDARTS_SIMULATOR
  const torch::stable::Device device(torch::headeronly::DeviceType::CPU);
#else
  const torch::stable::Device device(torch::headeronly::DeviceType::CUDA,
                                     torch::stable::accelerator::getCurrentDeviceIndex());
#endif
  return torch::stable::from_blob(const_cast<float*>(data), {size}, {1}, device, ScalarType::Float);
}

inline void gather_all(int64_t count, const float* own, float* all, int64_t size) {
  Tensor rows = wrapped(all, count * size);
  torch::stable::copy_(rows, torch::stable::flatten(gather(count, wrapped(own, size))));
}

// Of kernels that launch on torch's current stream.
inline Processes device_processes(int64_t count) { return {count, nullptr, nullptr, gather_all}; }

// Device memory from torch's caching allocator; the kernels use it in the order of the stream.
inline Tensor scratch_of(const Tensor& like, size_t bytes) {
  return new_empty(like, {static_cast<int64_t>(bytes)}, ScalarType::Byte);
}

}  // namespace pcdarts
