// What the direct bind files share. They lead from Python to the engine of the CPU past torch's
// dispatcher, with autograd nodes in C++, for calls of which torch's ways are known: plain tensors,
// and no mode or transform that wants to see what is called. Every other call is left to the
// dispatcher. This part of torch has no stable ABI: the library serves the torch it was built with.
#pragma once
#include <ATen/PythonTorchFunctionTLS.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/record_function.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/python_variable.h>
#include <torch/csrc/inductor/aoti_torch/utils.h>
#include <torch/csrc/utils/pybind.h>

#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "common/bind.h"

namespace pcdarts {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// A tensor as the engine's functions take it, and as they give it.
inline Tensor to_engine(const at::Tensor& tensor) {
  return Tensor(torch::aot_inductor::new_tensor_handle(at::Tensor(tensor)));
}
inline std::vector<Tensor> to_engine(at::TensorList tensors) {
  std::vector<Tensor> result;
  result.reserve(tensors.size());
  for (const at::Tensor& tensor : tensors) result.push_back(to_engine(tensor));
  return result;
}
inline std::vector<Tensor> to_engine(const variable_list& tensors) {
  return to_engine(at::TensorList(tensors));
}
inline at::Tensor from_engine(const Tensor& tensor) {
  return *torch::aot_inductor::tensor_handle_to_tensor_pointer(tensor.get());
}
inline variable_list from_engine(const std::vector<Tensor>& tensors) {
  variable_list result;
  result.reserve(tensors.size());
  for (const Tensor& tensor : tensors) result.push_back(from_engine(tensor));
  return result;
}

// Whether nothing on this thread wants to see what is called: no mode, no transform, no tracer.
inline bool is_unwatched() {
  return c10::impl::tls_local_dispatch_key_set().included_ == c10::default_included_set &&
         !at::impl::torch_function_mode_enabled();
}

// Whether its memory holds its numbers, in rows, on the CPU: no subclass with a dispatch of its
// own, no fake, lazily negated or all-zero tensor, none of inference mode or with a tangent.
inline bool is_plain(const at::Tensor& tensor) {
  constexpr auto cpu = c10::BackendComponent::CPUBit;
  static const c10::DispatchKeySet plain = c10::DispatchKeySet(c10::DispatchKey::CPU) |
                                           c10::getAutogradRelatedKeySetFromBackend(cpu) |
                                           c10::getAutocastRelatedKeySetFromBackend(cpu);
  return tensor.defined() && tensor.key_set() == plain && tensor.is_contiguous() &&
         !tensor._fw_grad(0).defined();
}
inline bool is_plain(const at::Tensor& tensor, at::ScalarType type) {
  return is_plain(tensor) && tensor.scalar_type() == type;
}
inline bool are_plain(at::TensorList tensors) {
  return std::all_of(tensors.begin(), tensors.end(),
                     [](const at::Tensor& tensor) { return is_plain(tensor); });
}
inline bool are_plain(at::TensorList tensors, at::ScalarType type) {
  return std::all_of(tensors.begin(), tensors.end(),
                     [type](const at::Tensor& tensor) { return is_plain(tensor, type); });
}

// What values of a storage type are added up in.
inline at::ScalarType accumulation_of(at::ScalarType type) {
  return type == at::kDouble ? at::kDouble : at::kFloat;
}

// As kernels read it. In backward also what was so in forward: hooks of saved tensors may bring it
// back otherwise, and gradients come as they like.
inline at::Tensor dense(const at::Tensor& tensor, at::ScalarType type) {
  if (tensor.scalar_type() == type && tensor.is_contiguous()) return tensor;
  return tensor.to(type).contiguous();
}
inline variable_list dense(at::TensorList tensors, at::ScalarType type) {
  variable_list result;
  result.reserve(tensors.size());
  for (const at::Tensor& tensor : tensors) result.push_back(dense(tensor, type));
  return result;
}

// Arguments and results of the engine's functions that are no tensors stay as they are.
template <class T>
const T& to_engine(const T& argument) {
  return argument;
}
template <class T>
bool is_plain_argument(const T& argument) {
  if constexpr (std::is_same_v<T, at::Tensor>) return is_plain(argument);
  if constexpr (std::is_same_v<T, variable_list>) return are_plain(argument);
  return true;
}

// What the engine's function gives for these arguments; profilers see the name of the dispatcher's
// kernel that it is.
template <class Results, class Engine, class... Arguments>
Results run_engine(const char* name, const Engine& engine, const Arguments&... arguments) {
  RECORD_FUNCTION(name, c10::ArrayRef<const c10::IValue>{});
  return std::apply([](const auto&... results) { return Results{from_engine(results)...}; },
                    engine(1, to_engine(arguments)...));
}

// ... and what that kernel gives, called by the dispatcher, where backward runs under a mode or on
// tensors that are not plain.
template <class Results, class Engine, class... Arguments>
Results run(const char* name, const Engine& engine, const Arguments&... arguments) {
  if (is_unwatched() && (is_plain_argument(arguments) && ...)) {
    return run_engine<Results>(name, engine, arguments...);
  }
  torch::jit::Stack stack = {c10::IValue(arguments)...};
  c10::Dispatcher::singleton().findSchemaOrThrow(name, "").callBoxed(stack);
  return c10::IValue(c10::ivalue::Tuple::create(std::move(stack))).to<Results>();
}

inline bool is_state(const at::Tensor& x, int64_t stride) {
  const at::ScalarType type = x.scalar_type();
  return (type == at::kFloat || type == at::kDouble || type == at::kBFloat16) && is_plain(x) &&
         x.dim() == 4 && x.numel() > 0 && x.size(2) % stride == 0 && x.size(3) % stride == 0;
}

// The running statistics of N batch-norms of C channels, and how many batches they have seen.
struct Running {
  variable_list mean, variance, batches;  // N of [C] each; N of no dimension
};
inline bool are_plain(const Running& running) {
  return are_plain(running.mean) && are_plain(running.variance) && are_plain(running.batches);
}

// A batch's own: mean and biased variance [N, C], or [C] of one batch-norm.
struct BatchStatistics {
  at::Tensor mean, variance;
};

// Moves them by those of `count` values a channel (update_running/bind_direct.cpp).
void advance(const Running& running, const BatchStatistics& batch, int64_t count, double momentum);

// Whether one of the variables from `first` to `last` wants its gradient.
inline bool any_needs_gradient(const AutogradContext& ctx, size_t first, size_t last) {
  bool any = false;
  for (size_t i = first; i < last; ++i) any |= ctx.needs_input_grad(i);
  return any;
}

// `count` tensors as a function of others that has no derivative (pcdarts_fast/ops/once.py).
class Once : public torch::autograd::Function<Once> {
 public:
  static variable_list forward(AutogradContext*, size_t count, at::TensorList tensors) {
    variable_list result;
    for (const at::Tensor& tensor : tensors.slice(0, count)) {
      result.push_back(tensor.view_as(tensor));
    }
    return result;
  }
  static variable_list backward(AutogradContext*, const variable_list&) {
    TORCH_CHECK(false,
                "a fused operator of pcdarts_fast cannot be differentiated twice: build the module "
                "with backend=\"reference\" for second derivatives");
  }
};

// The backward of a function that has `others` arguments before its variables, and saves `kept`
// tensors before them: gradients(saved, variables, grad, to) puts those of the variables to `to`.
// Under create_graph=True they lead back, by way of what they were computed from, to an error.
template <class Gradients>
variable_list once_differentiable(AutogradContext* ctx, const variable_list& grads, size_t others,
                                  size_t kept, const Gradients& gradients) {
  const variable_list saved = ctx->get_saved_variables();
  const at::TensorList variables = at::TensorList(saved).slice(kept);
  variable_list results(others + variables.size());
  const at::Tensor& grad = grads[0];
  if (!grad.defined()) return results;
  const bool again = at::GradMode::is_enabled();
  {
    const at::NoGradGuard guard;
    gradients(saved, variables, grad, results.data() + others);
  }
  if (!again) return results;
  variable_list tensors;
  for (const at::Tensor& result : results) {
    if (result.defined()) tensors.push_back(result);
  }
  const size_t count = tensors.size();
  tensors.insert(tensors.end(), variables.begin(), variables.end());
  tensors.push_back(grad);
  const variable_list given = Once::apply(count, at::TensorList(tensors));
  auto next = given.begin();
  for (at::Tensor& result : results) {
    if (result.defined()) result = *next++;
  }
  return results;
}

// Keys of the tables of modules.
struct Names {
  PyObject* weight = PyUnicode_InternFromString("weight");
  PyObject* running_mean = PyUnicode_InternFromString("running_mean");
  PyObject* running_var = PyUnicode_InternFromString("running_var");
  PyObject* num_batches_tracked = PyUnicode_InternFromString("num_batches_tracked");
};
inline const Names& names() {
  static const Names* const all = new Names;  // never deleted: Python ends before statics do
  return *all;
}

// Adds the tensor to the others; false where it is none, or of a subclass, which may have torch
// functions of its own.
inline bool collect(PyObject* object, variable_list& to) {
  if (object == nullptr || !THPVariable_CheckExact(object)) return false;
  to.push_back(THPVariable_Unpack(object));
  return true;
}
inline bool collect(const pybind11::list& objects, variable_list& to) {
  return std::all_of(objects.begin(), objects.end(),
                     [&](const pybind11::handle object) { return collect(object.ptr(), to); });
}
// Adds the tensor of this name in each of the tables; other mappings may do more than look it up.
inline bool collect(const pybind11::list& tables, PyObject* name, variable_list& to) {
  return std::all_of(tables.begin(), tables.end(), [&](const pybind11::handle table) {
    return PyDict_CheckExact(table.ptr()) &&
           collect(PyDict_GetItemWithError(table.ptr(), name), to);
  });
}
inline bool collect(const pybind11::list& norms, Running& to) {
  return collect(norms, names().running_mean, to.mean) &&
         collect(norms, names().running_var, to.variance) &&
         collect(norms, names().num_batches_tracked, to.batches);
}

}  // namespace pcdarts
