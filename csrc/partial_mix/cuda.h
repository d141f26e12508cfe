#pragma once
#include <cstddef>

#include "common/planes.h"
#include "partial_mix/math.h"

namespace pcdarts {

constexpr int kMostOutputs = 64;  // candidate outputs that a kernel's arguments have room for

// Device memory; dtype float32, bfloat16 or float16; `weights` [outputs] in float32. `scratch`
// holds as many bytes as asked for, 256-byte aligned. Nothing synchronises.
size_t cuda_partial_mix_scratch(const PartialMix&);
void cuda_partial_mix_forward(const PartialMix&, const Planes* outputs, const float* weights,
                              const Planes& x, void* out, void* scratch, void* stream);

// Each of the three gradients may be null: it is then not computed. grad_outputs: [outputs] of
// contiguous [B, C/k, H', W']; grad_x: contiguous [B, C, H, W]; grad_weights: [outputs] in float32.
void cuda_partial_mix_backward(const PartialMix&, const Planes& grad, const Planes* outputs,
                               const float* weights, const Planes& x, void* const* grad_outputs,
                               float* grad_weights, void* grad_x, void* scratch, void* stream);

}  // namespace pcdarts
