// What bind files share: the way from torch's tensors to the kernels' plain structs.
// Only bind files (bind*.h, bind*.cpp) include this; everything else in csrc/ knows no torch.
#pragma once
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <vector>

#include "common/dtype.h"
#include "common/parallel.h"
#include "common/planes.h"
#include "common/processes.h"
#include "common/results.h"
#include "common/uninitialised.h"

// For the library beside (bind_direct.h): what is not marked stays a library's own.
#define PCDARTS_EXPORT __attribute__((visibility("default")))

namespace pcdarts {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline DType dtype_of(const Tensor& tensor) {
  const ScalarType type = tensor.scalar_type();
  STD_TORCH_CHECK(
      type == ScalarType::Float || type == ScalarType::Double || type == ScalarType::BFloat16,
      "got ", type == ScalarType::Half ? "float16" : "another dtype",
      ", wanted float32, float64 or bfloat16");
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

// Uninitialised and contiguous, on the tensor's device; large ones of the CPU in memory that is
// used again. Straight from torch's C functions: torch::stable::new_empty finds its operator by
// name, which costs more than the allocation.
inline Tensor new_empty(const Tensor& like, std::span<const int64_t> sizes, ScalarType type) {
  constexpr size_t kMostDimensions = 4;
  STD_TORCH_CHECK(sizes.size() <= kMostDimensions, "expected at most 4 dimensions");
  std::array<int64_t, kMostDimensions> strides;
  int64_t elements = 1;
  for (size_t i = sizes.size(); i-- > 0; elements *= sizes[i]) strides[i] = elements;
  int32_t device_type = 0, device = 0;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device_type));
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(like.get(), &device));
  const auto dtype = torch::stable::detail::to<int32_t>(torch::stable::detail::from(type));
  const auto bytes = static_cast<size_t>(elements) * aoti_torch_dtype_element_size(dtype);
  const bool on_cpu = device_type == aoti_torch_device_type_cpu();
  if (on_cpu && bytes >= kLeastKept) {
    const torch::stable::Device cpu(torch::headeronly::DeviceType::CPU);
    return torch::stable::from_blob(uninitialised(take_result(bytes), bytes),
                                    {sizes.data(), sizes.size()}, {strides.data(), sizes.size()},
                                    cpu, type, give_back_result);
  }
  AtenTensorHandle made = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(static_cast<int64_t>(sizes.size()),
                                                         sizes.data(), strides.data(), dtype,
                                                         device_type, device, &made));
  Tensor result(made);
  if (on_cpu) uninitialised(result.mutable_data_ptr(), bytes);
  return result;
}

inline Tensor new_empty(const Tensor& like, std::initializer_list<int64_t> sizes, ScalarType type) {
  return new_empty(like, std::span(sizes.begin(), sizes.size()), type);
}

inline Tensor new_empty(const Tensor& like, std::initializer_list<int64_t> sizes) {
  return new_empty(like, sizes, like.scalar_type());
}

// Uninitialised, of the tensor's shape.
inline Tensor empty_like(const Tensor& x, ScalarType type) {
  const auto sizes = x.sizes();
  return new_empty(x, std::span(sizes.data(), sizes.size()), type);
}

// ... and of its dtype; without elements where it is not needed.
inline Tensor empty_like_if(bool needed, const Tensor& x) {
  return needed ? empty_like(x, x.scalar_type()) : new_empty(x, {0});
}

// Raises where batch-norms of so many channels in all cannot normalise with these statistics.
inline void check_running(const char* op, const std::optional<Tensor>& mean,
                          const std::optional<Tensor>& variance, int64_t channels) {
  for (const std::optional<Tensor>* running : {&mean, &variance}) {
    STD_TORCH_CHECK(!*running || (*running)->numel() == channels, op, ": running statistics of ",
                    *running ? (*running)->numel() : 0, " channels, wanted ", channels);
  }
}

// Raises where a tensor that a kernel of x reads lies elsewhere: the dispatcher takes the engine of
// one of them.
inline void check_device(const Tensor& x, const Tensor& tensor) {
  STD_TORCH_CHECK(tensor.get_device_index() == x.get_device_index(),
                  "expected all tensors on the device of the input; move the module there");
}

// Where a batch-norm's mean or variance lies: the batch's own, to be written, or the running one.
inline void* moments_data(Tensor& own, const std::optional<Tensor>& running) {
  if (running) check_device(own, *running);
  return running ? const_cast<void*>(running->const_data_ptr()) : own.mutable_data_ptr();
}

// Where tensors lie that a kernel of x reads.
inline std::vector<const void*> addresses(const Tensor& x, const std::vector<Tensor>& tensors) {
  std::vector<const void*> result;
  for (const Tensor& tensor : tensors) {
    check_device(x, tensor);
    result.push_back(tensor.const_data_ptr());
  }
  return result;
}

// Uninitialised, one of the shape of each; none where they are not needed.
inline std::vector<Tensor> empty_likes_if(bool needed, const std::vector<Tensor>& tensors,
                                          ScalarType type) {
  std::vector<Tensor> result;
  for (size_t i = 0; needed && i < tensors.size(); ++i) {
    result.push_back(empty_like(tensors[i], type));
  }
  return result;
}

inline std::vector<void*> addresses_to_write(std::vector<Tensor>& tensors) {
  std::vector<void*> result;
  for (Tensor& tensor : tensors) result.push_back(tensor.mutable_data_ptr());
  return result;
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

// `own` [size] of every process: [count, size]. Python implements the operator with
// torch.distributed (pcdarts_fast/ops/processes.py), for tensors of any device.
inline Tensor gather(int64_t count, const Tensor& own) {
  std::array<StableIValue, 2> stack{torch::stable::detail::from(own),
                                    torch::stable::detail::from(count)};
  STABLE_TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("pcdarts_cpu::gather_from_processes", "",
                                                      stack.data(), TORCH_ABI_VERSION));
  return torch::stable::detail::to<Tensor>(stack[0]);
}

inline Tensor gather(int64_t count, const double* own, int64_t size) {
  Tensor values = torch::stable::empty({size}, ScalarType::Double);
  std::copy(own, own + size, static_cast<double*>(values.mutable_data_ptr()));
  return gather(count, values);
}

inline void merge_all(int64_t count, Moments* moments, int64_t size) {
  constexpr int64_t kFields = sizeof(Moments) / sizeof(double);
  const Tensor all = gather(count, reinterpret_cast<const double*>(moments), size * kFields);
  const auto* const rows = static_cast<const Moments*>(all.const_data_ptr());
  for (int64_t i = 0; i < size; ++i) {
    Moments total = {0, 0, 0};
    for (int64_t rank = 0; rank < count; ++rank) total = merge(total, rows[rank * size + i]);
    moments[i] = total;
  }
}

inline void add_all(int64_t count, double* sums, int64_t size) {
  const Tensor all = gather(count, sums, size);
  const auto* const rows = static_cast<const double*>(all.const_data_ptr());
  for (int64_t i = 0; i < size; ++i) {
    double total = 0;
    for (int64_t rank = 0; rank < count; ++rank) total += rows[rank * size + i];
    sums[i] = total;
  }
}

inline Processes processes_of(int64_t count) { return {count, merge_all, add_all, nullptr}; }

// A kernel without its first argument, the number of processes: alone.
template <auto kernel>
struct Alone;
template <class Result, class... Arguments, Result (*kernel)(int64_t, Arguments...)>
struct Alone<kernel> {
  static Result call(Arguments... arguments) { return kernel(1, arguments...); }
};

}  // namespace pcdarts
