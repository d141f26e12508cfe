// Whether this library's kernels can run on the current device: asked before anything is launched.
#include <cuda_runtime.h>

namespace {
__global__ void probe() {}
}  // namespace

// Null where they can, else CUDA's reason.
extern "C" __attribute__((visibility("default"))) const char* pcdarts_cuda_trouble() {
  cudaFuncAttributes attributes;
  const cudaError_t error = cudaFuncGetAttributes(&attributes, probe);
  cudaGetLastError();  // not left for the next launch to find
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}
