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
  const int64_t input = input_size(p), output = output_size(p);
  struct Stacks {
    float *inputs[kMaxStates], *out;
  };
  const Stacks stacks = in_workspace(Workspace::stacks, [&](Pieces& pieces) {
    Stacks s = {};
    for (int j = 0; j < p.inputs; ++j) s.inputs[j] = take<float>(pieces, p.batch * input);
    s.out = take<float>(pieces, p.batch * output);
    return s;
  });
  const void* inputs[kMaxStates];
  for (int j = 0; j < p.inputs; ++j) {
    stack(parallel, q.batch, args.inputs[j], input, stacks.inputs[j]);
    inputs[j] = stacks.inputs[j];
  }
  MixedCellForward own = args;
  own.inputs = inputs, own.out = stacks.out;
  run(q, own);
  unstack(parallel, q.batch, stacks.out, output, args.out);
}

template <class F>
PCDARTS_INLINE void backward_in_stacks(const MixedCell& p, const MixedCellBackward& args,
                                       const Parallel& parallel, F run) {
  const MixedCell q = stacked(p);
  const int64_t input = input_size(p), output = output_size(p);
  struct Stacks {
    float *inputs[kMaxStates], *grad_inputs[kMaxStates], *out, *grad_out;
  };
  const Stacks stacks = in_workspace(Workspace::stacks, [&](Pieces& pieces) {
    Stacks s = {};
    for (int j = 0; j < p.inputs; ++j) {
      const bool needed = args.grad_inputs[j] != nullptr;
      s.inputs[j] = take<float>(pieces, p.batch * input);
      s.grad_inputs[j] = needed ? take<float>(pieces, p.batch * input) : nullptr;
    }
    s.out = take<float>(pieces, p.batch * output);
    s.grad_out = take<float>(pieces, p.batch * output);
    return s;
  });
  const void* inputs[kMaxStates];
  void* grad_inputs[kMaxStates];
  for (int j = 0; j < p.inputs; ++j) {
    stack(parallel, q.batch, args.forward.inputs[j], input, stacks.inputs[j]);
    inputs[j] = stacks.inputs[j], grad_inputs[j] = stacks.grad_inputs[j];
  }
  if (p.nodes > 1) stack(parallel, q.batch, args.forward.out, output, stacks.out);
  stack(parallel, q.batch, args.grad_out, output, stacks.grad_out);
  MixedCellBackward own = args;
  own.forward.inputs = inputs, own.forward.out = stacks.out;
  own.grad_out = stacks.grad_out, own.grad_inputs = grad_inputs;
  run(q, own);
  for (int j = 0; j < p.inputs; ++j) {
    if (grad_inputs[j] == nullptr) continue;
    unstack(parallel, q.batch, stacks.grad_inputs[j], input, args.grad_inputs[j]);
  }
}

}  // namespace
}  // namespace pcdarts::PCDARTS_ISA
