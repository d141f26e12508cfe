#pragma once
#include "common/parallel.h"
#include "mixed_cell/math.h"

namespace pcdarts {

// S is the storage type of MixedCell::dtype, T the type it accumulates in. All memory is dense.
struct MixedCellForward {
  const void* const* inputs;   // [inputs] of S [B, C, stride * H, stride * W]
  const void* const* weights;  // T, edge by edge, primitive by primitive
  const void* alpha;           // T [edges, primitives], soft-maxed
  const void* beta;            // T [edges]
  void* mean;                  // T [slots, C/k]: written in training, else read
  void* variance;              // the same, biased
  void* z;                     // T, z_size elements: all units; null: not kept
  void* out;                   // S [B, nodes * C, H, W]
};

struct MixedCellBackward {
  MixedCellForward forward;   // as it was; z may be null: it is computed again, to the same bits
  const void* grad_out;       // S [B, nodes * C, H, W]
  void* const* grad_inputs;   // [inputs] of S, any of them null where not needed
  void* const* grad_weights;  // T, as weights; null: not needed
  void* grad_alpha;           // T [edges, primitives], of `none` zero; null: not needed
  void* grad_beta;            // T [edges]; null: not needed
};

// Any number of threads gives the same bits: the batch is cut into chunks by its size alone.
struct MixedCellKernels {
  int64_t (*z_size)(const MixedCell&);  // elements
  void (*forward)(const MixedCell&, const MixedCellForward&, const Parallel&);
  void (*backward)(const MixedCell&, const MixedCellBackward&, const Parallel&);
};

const MixedCellKernels& mixed_cell_kernels();

}  // namespace pcdarts
