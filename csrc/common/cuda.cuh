// The words of CUDA and the one place that launches kernels. Without nvcc, tests/csrc/cusim.h
// takes the place of the CUDA runtime and runs the same kernels on the CPU.
#pragma once
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/host_device.h"

#ifdef __CUDACC__
#include <cuda_runtime.h>
// A block's dynamic shared memory, 16-byte aligned.
#define PCDARTS_SHARED(name) extern __shared__ __align__(16) float name[]
#define PCDARTS_UNROLLED _Pragma("unroll")
#define PCDARTS_ROLLED _Pragma("unroll 1")
#else
#include <cusim.h>
#define PCDARTS_SHARED(name) float* const name = cusim::shared_memory()
#define PCDARTS_UNROLLED _Pragma("GCC unroll 64")
#define PCDARTS_ROLLED
#endif

namespace pcdarts {

// Throws where CUDA refuses the launch; what a kernel does wrong shows at a later call, as usual.
template <class... P, class... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, void* stream,
            const A&... arguments) {
  static_assert((sizeof(P) + ... + 0) <= 4096, "older drivers take 4 KiB of arguments");
  constexpr unsigned kMostRows = 65535;  // of a grid: its y dimension, which counts channels
  if (grid.y > kMostRows) {
    throw std::runtime_error("a CUDA grid has no room for so many channels");
  }
#ifdef __CUDACC__
  constexpr size_t kWithoutAsking = 48 * 1024;
  if (shared > kWithoutAsking) {  // all that there is: less would be taken from another thread
    int device = 0, most = 0;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    if (shared > static_cast<size_t>(most)) {
      throw std::runtime_error("a CUDA kernel needs " + std::to_string(shared) +
                               " bytes of shared memory a block, and this GPU has " +
                               std::to_string(most) +
                               "; take fewer channels, or the backend triton");
    }
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most);
  }
  kernel<<<grid, block, shared, static_cast<cudaStream_t>(stream)>>>(arguments...);
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) {
    throw std::runtime_error(std::string("a CUDA kernel could not be launched: ") +
                             cudaGetErrorString(error));
  }
#else
  (void)stream;
  auto body = [&] { kernel(arguments...); };
  cusim::run(reinterpret_cast<const void*>(kernel), grid, block, shared, body);
#endif
}

// Copies items from number `first` on into a kernel's arguments, as many as those have room for;
// returns the number of the next one.
template <class Arguments, class Item>
size_t take_items(const std::vector<Item>& items, size_t first, Arguments& a) {
  constexpr int room = sizeof(a.item) / sizeof(Item);
  for (a.items = 0; first < items.size() && a.items < room; ++first) {
    a.item[a.items++] = items[first];
  }
  return first;
}

PCDARTS_HD int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// A grid's x dimension.
inline unsigned grid_of(int64_t blocks) {
  if (blocks > 0x7fffffff) throw std::runtime_error("a CUDA grid has no room for so large a batch");
  return static_cast<unsigned>(blocks);
}

}  // namespace pcdarts
