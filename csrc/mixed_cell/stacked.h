// A problem whose maps are small, computed in stacks of eight samples: as one of an eighth of the
// batch, on images of 8 * W columns of which neighbours lie eight apart (StackGrid). Its z is never
// larger than that of the problem as it stands, for which forward's caller has made room.
#pragma once
#include "common/stack.h"
#include "common/strips.h"
#include "mixed_cell/cpu.h"

namespace pcdarts::PCDARTS_ISA {
namespace {

PCDARTS_INLINE bool in_stacks(const MixedCell& p) {
  return p.dtype == DType::float32 && p.width <= kMostStacked && p.height <= kMostStacked &&
         stackable(p.batch);
}

PCDARTS_INLINE MixedCell stacked(MixedCell p) {
  p.batch /= kLanes, p.width *= kLanes;
  return p;
}

// Elements of one sample of an input, and of the output.
PCDARTS_INLINE int64_t input_size(const MixedCell& p) {
  return p.channels * p.stride * p.height * p.stride * p.width;
}
PCDARTS_INLINE int64_t output_size(const MixedCell& p) {
  return p.nodes * p.channels * p.height * p.width;
}

// run(problem, arguments) computes the stacked problem.
template <class F>
PCDARTS_INLINE void forward_in_stacks(const MixedCell& p, const MixedCellForward& args,
                                      const Parallel& parallel, F run) {
  const MixedCell q = stacked(p);
  StackedTensor tensors[kMaxStates + 1] = {}, &out = tensors[p.inputs];
  for (int j = 0; j < p.inputs; ++j) tensors[j] = {input_size(p), args.inputs[j], nullptr, nullptr};
  out = {output_size(p), nullptr, args.out, nullptr};
  through_stacks(parallel, q.batch, tensors, p.inputs + 1, [&] {
    const void* inputs[kMaxStates];
    for (int j = 0; j < p.inputs; ++j) inputs[j] = tensors[j].stack;
    MixedCellForward own = args;
    own.inputs = inputs, own.out = out.stack;
    run(q, own);
  });
}

template <class F>
PCDARTS_INLINE void backward_in_stacks(const MixedCell& p, const MixedCellBackward& args,
                                       const Parallel& parallel, F run) {
  const MixedCell q = stacked(p);
  StackedTensor tensors[2 * kMaxStates + 2] = {};
  StackedTensor *const x = tensors, *const grad_x = x + p.inputs, &out = grad_x[p.inputs],
                       &grad_out = grad_x[p.inputs + 1];
  for (int j = 0; j < p.inputs; ++j) {
    void* const wanted = args.grad_inputs[j];
    x[j] = {input_size(p), args.forward.inputs[j], nullptr, nullptr};
    grad_x[j] = {wanted == nullptr ? 0 : input_size(p), nullptr, wanted, nullptr};
  }
  out = {output_size(p), p.nodes > 1 ? args.forward.out : nullptr, nullptr, nullptr};
  grad_out = {output_size(p), args.grad_out, nullptr, nullptr};
  through_stacks(parallel, q.batch, tensors, 2 * p.inputs + 2, [&] {
    const void* inputs[kMaxStates];
    void* grad_inputs[kMaxStates];
    for (int j = 0; j < p.inputs; ++j) inputs[j] = x[j].stack, grad_inputs[j] = grad_x[j].stack;
    MixedCellBackward own = args;
    own.forward.inputs = inputs, own.forward.out = out.stack;
    own.grad_out = grad_out.stack, own.grad_inputs = grad_inputs;
    run(q, own);
  });
}

}  // namespace
}  // namespace pcdarts::PCDARTS_ISA
