#pragma once
#include "common/planes.h"
#include "partial_mix/math.h"

namespace pcdarts {

// A call works on the units begin..end of batch * channels (math.h); any split into calls, on any
// threads, gives the same bits.
struct PartialMixKernels {
  // outputs: [outputs] of [B, C/k, H', W']; weights: [outputs]; out: contiguous [B, C, H', W'].
  void (*forward)(const PartialMix&, const Planes* outputs, const double* weights, const Planes& x,
                  void* out, int64_t begin, int64_t end);

  // Each of the three gradients may be null: it is then not computed.
  // grad_outputs: [outputs] of contiguous [B, C/k, H', W']; grad_x: contiguous [B, C, H, W];
  // grad_weights: [B, C/k, outputs], one partial sum a plane, to be summed in order by the caller.
  // outputs is read for grad_weights only, x for grad_x with stride 2 only.
  void (*backward)(const PartialMix&, const Planes& grad, const Planes* outputs,
                   const double* weights, const Planes& x, void* const* grad_outputs,
                   double* grad_weights, void* grad_x, int64_t begin, int64_t end);
};

const PartialMixKernels& partial_mix_kernels();

}  // namespace pcdarts
