// PyTorch's ReLU: a NaN goes through, and lets its gradient through.
#pragma once
#include "common/cuda.cuh"

namespace pcdarts {

__device__ __forceinline__ float relu(float v) { return v < 0 ? 0 : v; }
__device__ __forceinline__ bool passes_relu(float v) { return !(v <= 0); }

}  // namespace pcdarts
