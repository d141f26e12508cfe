#pragma once
#include <cstddef>

#include "mixed_cell/cpu.h"

namespace pcdarts {

// The CUDA engine. Arguments as for the CPU engine, in device memory; dtype float32, bfloat16 or
// float16. `scratch` holds as many bytes as asked for, 256-byte aligned. Nothing waits for the
// device, and no kernel depends on the number of multiprocessors: the same bits on every device.
// Where there are other processes, all exchange statistics by `processes.gather`.
int64_t cuda_z_size(const MixedCell&);  // elements of MixedCellForward::z
size_t cuda_forward_scratch(const MixedCell&, bool store);
void cuda_forward(const MixedCell&, const MixedCellForward&, void* scratch, void* stream);

size_t cuda_backward_scratch(const MixedCell&, bool need_weights);
void cuda_backward(const MixedCell&, const MixedCellBackward&, void* scratch, void* stream);

}  // namespace pcdarts
