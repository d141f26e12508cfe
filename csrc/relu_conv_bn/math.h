// relu_conv_bn: what brings a state to a cell's channels and size before its edges (paper section
// 4.1). ReLU, a 1x1 convolution, batch-norm without scale and shift:
//
//   out[b, o] = (z[b, o] - mean[o]) * rstd[o],    z[b, o] = sum_c w[o, c] relu(x[b, c])
//
// Stride 2 is a factorized reduction: its first weight tensor reads the pixels (2y, 2x), its second
// the pixels (2y + 1, 2x + 1); their outputs lie one behind the other. A `linear` problem leaves
// the ReLU out (the stem, whose 3x3 patches are columns), a `plain` one the batch-norm (the
// classifier).
#pragma once
#include <cstdint>

#include "common/batch_norm.h"
#include "common/dtype.h"
#include "common/host_device.h"
#include "common/processes.h"

namespace pcdarts {

struct ReluConvBn {
  DType dtype;  // of x, out and their gradients; weights are in its accumulation type
  int64_t batch, in_channels, out_channels;
  int64_t height, width;  // of the output; x has stride times as many rows and columns
  int stride;             // 1 or 2
  int64_t even_outputs;   // of the first weight tensor, which reads even rows and columns
  bool training;          // batch statistics, else running statistics
  Processes processes;    // whose batches the statistics are of
  double eps;
  bool linear, plain;
};

PCDARTS_HD bool takes_statistics(const ReluConvBn& p) { return p.training && !p.plain; }

}  // namespace pcdarts
