// PCDARTS_HD marks a function for both sides: the same formula on the CPU and, under nvcc, the GPU.
//
// On the CPU it is static and always inlined on purpose: a header is compiled into the objects of
// every instruction set, and the linker would merge ordinary inline functions into one copy, which
// may then be the AVX-512 one, called on a machine that has none. For the same reason the structs
// that such functions take are plain data: they have no member functions.
#pragma once

#ifdef __CUDACC__
#define PCDARTS_HD __host__ __device__ __forceinline__
#else
#define PCDARTS_HD [[maybe_unused]] static inline __attribute__((always_inline))
#endif
