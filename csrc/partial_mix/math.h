// partial_mix: the problem and its index maps, shared by every compiled backend. No torch here.
//
// Count the channels of cat[mixed, bypass] by q = 0..C-1; the first C/k are mixed. Two tables say
// where a channel comes from and where it goes (pcdarts_fast/ops/channels.py makes them):
//
//   source[q]       the channel of x that position q reads
//   destination[q]  the channel of the result that position q is written to
//
//   out[b, destination[q]] = sum_i weights[i] * outputs[i][b, q]     q <  C/k
//                          = pool(x[b, source[q]])                   q >= C/k
//
// pool is the identity (stride 1) or a 2x2 maximum (stride 2). Both tables are permutations of
// 0..C-1, so every plane of the result, and of the gradient of x, is written exactly once.
#pragma once
#include <cstdint>

#include "common/dtype.h"
#include "common/host_device.h"
#include "common/window.h"

namespace pcdarts {

struct PartialMix {
  DType dtype;
  int64_t batch, channels, mixed;  // mixed = channels / k
  int64_t height, width;           // of the result; x has stride times as many rows and columns
  int64_t stride;                  // 1 or 2
  int64_t outputs;                 // how many candidate outputs
  const int64_t* source;
  const int64_t* destination;
};

// The unit of work is one plane: position q of one sample.
struct PlaneIndex {
  int64_t sample, q;
};
PCDARTS_HD PlaneIndex plane_index(int64_t unit, int64_t channels) {
  return {unit / channels, unit % channels};
}

}  // namespace pcdarts
