// How the bind files of mixed_cell read the operator's arguments and make its results.
#pragma once
#include "common/bind.h"
#include "mixed_cell/cpu.h"

namespace pcdarts {

// By position in KINDS (pcdarts_fast/ops/mixed_cell/schema.py).
inline constexpr Primitive kPrimitives[] = {
    {Kind::none, 0},     {Kind::max_pool, 3}, {Kind::avg_pool, 3}, {Kind::skip, 0},
    {Kind::sep_conv, 3}, {Kind::sep_conv, 5}, {Kind::dil_conv, 3}, {Kind::dil_conv, 5}};

// Raises unless there are as many weights as the edges want, each of as many elements.
inline void check_weights(const MixedCell& p, const std::vector<Tensor>& weights) {
  const int64_t count = static_cast<int64_t>(weights.size());
  const int64_t wanted = all_edges(p).weights;
  STD_TORCH_CHECK(count == wanted, "mixed_cell: got ", count, " weights, wanted ", wanted);
  size_t i = 0;
  for (int target = p.inputs; target < states_of(p); ++target) {
    for (int state = 0; state < target; ++state) {
      for (int column = 0; column < p.primitives; ++column) {
        const Primitive& primitive = p.primitive[column];
        const int tensors = weights_of(primitive.kind, edge_stride(p, state));
        for (int number = 0; number < tensors; ++number, ++i) {
          const int64_t elements = weights[i].numel();
          const int64_t place = weight_size(primitive, number, p.sampled);
          STD_TORCH_CHECK(elements == place, "mixed_cell: weights[", i, "] has ", elements,
                          " elements, wanted ", place);
        }
      }
    }
  }
}

// The public function (pcdarts_fast/ops/mixed_cell) has checked the inputs.
inline MixedCell problem(DType dtype, const std::vector<Tensor>& inputs,
                         const std::vector<Tensor>& weights, const std::vector<int64_t>& primitives,
                         int64_t nodes, int64_t k, int64_t stride,
                         const std::vector<int64_t>& source,
                         const std::vector<int64_t>& destination, double eps, bool training) {
  const Tensor& x = inputs[0];
  MixedCell p = {};
  p.dtype = dtype;
  p.batch = x.size(0), p.channels = x.size(1), p.sampled = p.channels / k;
  p.height = x.size(2) / stride, p.width = x.size(3) / stride, p.stride = static_cast<int>(stride);
  p.inputs = static_cast<int>(inputs.size()), p.nodes = static_cast<int>(nodes);
  STD_TORCH_CHECK(states_of(p) <= kMaxStates && primitives.size() <= kMaxPrimitives,
                  "mixed_cell: at most ", kMaxStates, " states and ", kMaxPrimitives,
                  " primitives");
  for (const int64_t code : primitives) p.primitive[p.primitives++] = kPrimitives[code];
  p.source = source.data(), p.destination = destination.data();
  p.training = training, p.eps = eps;
  STD_TORCH_CHECK(source.size() == static_cast<size_t>(p.channels) &&
                      destination.size() == static_cast<size_t>(p.channels),
                  "mixed_cell: the tables have ", source.size(), " and ", destination.size(),
                  " channels, wanted ", p.channels);
  check_weights(p, weights);
  return p;
}

namespace {

// The results of a forward call, and its arguments, which point into them.
struct ForwardCall {
  Tensor out, mean, variance, z;
  std::vector<const void*> inputs, weights;
  MixedCellForward args;

  ForwardCall(const ForwardCall&) = delete;
  ForwardCall(const MixedCell& p, const std::vector<Tensor>& inputs_, const Tensor& alpha,
              const Tensor& beta, const std::vector<Tensor>& weights_,
              const std::optional<Tensor>& running_mean,
              const std::optional<Tensor>& running_variance, int64_t z_size)
      : inputs(addresses(inputs_[0], inputs_)), weights(addresses(inputs_[0], weights_)), args{} {
    check_device(inputs_[0], alpha), check_device(inputs_[0], beta);
    const ScalarType type = accumulate_type(p.dtype);
    const int64_t norms = all_edges(p).slots, slots = p.training ? norms : 0;
    check_running("mixed_cell", running_mean, running_variance, norms * p.sampled);
    out = new_empty(inputs_[0], {p.batch, p.nodes * p.channels, p.height, p.width});
    mean = new_empty(alpha, {slots, p.sampled}, type);
    variance = new_empty(alpha, {slots, p.sampled}, type);
    z = new_empty(alpha, {z_size}, type);
    args.inputs = inputs.data(), args.weights = weights.data();
    args.alpha = alpha.const_data_ptr(), args.beta = beta.const_data_ptr();
    args.mean = moments_data(mean, running_mean);
    args.variance = moments_data(variance, running_variance);
    args.z = z_size > 0 ? z.mutable_data_ptr() : nullptr;
    args.out = out.mutable_data_ptr();
  }
};

// The same of a backward call.
struct BackwardCall {
  std::vector<Tensor> grad_inputs, grad_weights;
  Tensor grad_alpha, grad_beta;
  std::vector<const void*> inputs, weights;
  std::vector<void*> grad_input_data, grad_weight_data;
  MixedCellBackward args;

  BackwardCall(const BackwardCall&) = delete;
  BackwardCall(const MixedCell& p, const Tensor& grad_out, const std::vector<Tensor>& inputs_,
               const Tensor& alpha, const Tensor& beta, const std::vector<Tensor>& weights_,
               const Tensor& mean, const Tensor& variance, const Tensor& out, const Tensor& z,
               const std::vector<int64_t>& need_inputs, bool need_weights, bool need_alpha,
               bool need_beta)
      : inputs(addresses(inputs_[0], inputs_)), weights(addresses(inputs_[0], weights_)), args{} {
    check_device(inputs_[0], alpha), check_device(inputs_[0], beta);
    for (size_t i = 0; i < inputs_.size(); ++i) {
      grad_inputs.push_back(empty_like_if(need_inputs[i], inputs_[i]));
      grad_input_data.push_back(need_inputs[i] ? grad_inputs[i].mutable_data_ptr() : nullptr);
    }
    grad_weights = empty_likes_if(need_weights, weights_, accumulate_type(p.dtype));
    grad_weight_data = addresses_to_write(grad_weights);
    grad_alpha = empty_like_if(need_alpha, alpha);
    grad_beta = empty_like_if(need_beta, beta);
    args.forward.inputs = inputs.data(), args.forward.weights = weights.data();
    args.forward.alpha = alpha.const_data_ptr(), args.forward.beta = beta.const_data_ptr();
    args.forward.mean = const_cast<void*>(mean.const_data_ptr());
    args.forward.variance = const_cast<void*>(variance.const_data_ptr());
    args.forward.z = z.numel() > 0 ? const_cast<void*>(z.const_data_ptr()) : nullptr;
    args.forward.out = const_cast<void*>(out.const_data_ptr());
    args.grad_out = grad_out.const_data_ptr();
    args.grad_inputs = grad_input_data.data();
    args.grad_weights = need_weights ? grad_weight_data.data() : nullptr;
    args.grad_alpha = need_alpha ? grad_alpha.mutable_data_ptr() : nullptr;
    args.grad_beta = need_beta ? grad_beta.mutable_data_ptr() : nullptr;
  }
};

}  // namespace
}  // namespace pcdarts
