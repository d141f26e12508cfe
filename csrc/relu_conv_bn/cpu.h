#pragma once
#include "common/parallel.h"
#include "relu_conv_bn/math.h"

namespace pcdarts {

// S is the storage type of ReluConvBn::dtype, T the type it accumulates in. All memory is dense.
struct ReluConvBnForward {
  const void* x;               // S [B, in, stride * H, stride * W]
  const void* const* weights;  // T [even_outputs, in]; at stride 2 also the others
  void *mean, *variance;       // T [out]: written in training, else read
  void* out;                   // S [B, out, H, W]
};

struct ReluConvBnBackward {
  ReluConvBnForward forward;  // as it was; its mean is not read
  const void* grad_out;       // S [B, out, H, W]
  void* grad_x;               // S, as x; null: not needed
  void* const* grad_weights;  // T, as weights; null: not needed
};

// Any number of threads gives the same bits: the batch is cut into chunks by its size alone.
struct ReluConvBnKernels {
  void (*forward)(const ReluConvBn&, const ReluConvBnForward&, const Parallel&);
  void (*backward)(const ReluConvBn&, const ReluConvBnBackward&, const Parallel&);
};

const ReluConvBnKernels& relu_conv_bn_kernels();

}  // namespace pcdarts
