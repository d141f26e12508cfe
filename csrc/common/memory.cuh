// Every access to global memory goes through here: packs of four, or of 16 bytes, where the
// layout allows, else single elements. The simulator counts the bytes.
#pragma once
#include "common/cuda.cuh"
#include "common/dtype.h"
#include "common/pieces.h"

namespace pcdarts {

template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  T value[N];
};

// Elements in 16 bytes.
template <class T>
constexpr int kWide = 16 / sizeof(T);

template <class T>
__device__ __forceinline__ T get(const T* p) {
#ifndef __CUDACC__
  cusim::touch(cusim::loads, p, sizeof(T));
#endif
  return *p;
}
template <class T>
__device__ __forceinline__ void put(T* p, const T& value) {
#ifndef __CUDACC__
  cusim::touch(cusim::stores, p, sizeof(T));
#endif
  *p = value;
}

template <class S>
__device__ __forceinline__ float get_float(const S* p) {
  const S value = get(p);
  return load(&value);
}
template <class S>
__device__ __forceinline__ void put_float(S* p, float value) {
  S narrow;
  store(&narrow, value);
  put(p, narrow);
}

// v = p[0..N), of which only the first `count` exist, the others are 0; `packed`: p is aligned.
template <int N, class S>
__device__ __forceinline__ void get_some(const S* p, int count, bool packed, float (&v)[N]) {
  if (packed && count >= N) {
    const Pack<S, N> pack = get(reinterpret_cast<const Pack<S, N>*>(p));
    PCDARTS_UNROLLED for (int i = 0; i < N; ++i) v[i] = load(pack.value + i);
    return;
  }
  PCDARTS_UNROLLED for (int i = 0; i < N; ++i) v[i] = i < count ? get_float(p + i) : 0.f;
}
template <int N, class S>
__device__ __forceinline__ void put_some(S* p, int count, bool packed, const float (&v)[N]) {
  if (packed && count >= N) {
    Pack<S, N> pack;
    PCDARTS_UNROLLED for (int i = 0; i < N; ++i) store(pack.value + i, v[i]);
    put(reinterpret_cast<Pack<S, N>*>(p), pack);
    return;
  }
  PCDARTS_UNROLLED for (int i = 0; i < N; ++i) {
    if (i < count) put_float(p + i, v[i]);
  }
}

// Four values of shared memory, 16-byte aligned.
__device__ __forceinline__ void get_shared(const float* p, float (&v)[4]) {
  const Pack<float, 4> pack = *reinterpret_cast<const Pack<float, 4>*>(p);
  PCDARTS_UNROLLED for (int i = 0; i < 4; ++i) v[i] = pack.value[i];
}
__device__ __forceinline__ void put_shared(float* p, const float (&v)[4]) {
  Pack<float, 4> pack;
  PCDARTS_UNROLLED for (int i = 0; i < 4; ++i) pack.value[i] = v[i];
  *reinterpret_cast<Pack<float, 4>*>(p) = pack;
}

// Calls f.template operator()<S>() with the storage type of `dtype`; the one is for the host, the
// other for kernels.
template <class F>
void with_storage_type(DType dtype, const F& f) {
  if (dtype == DType::float32) return f.template operator()<float>();
  if (dtype == DType::bfloat16) return f.template operator()<bfloat16>();
  f.template operator()<float16>();
}
template <class F>
__device__ __forceinline__ void with_stored_type(DType dtype, const F& f) {
  if (dtype == DType::float32) return f.template operator()<float>();
  if (dtype == DType::bfloat16) return f.template operator()<bfloat16>();
  f.template operator()<float16>();
}
PCDARTS_HD int size_of(DType dtype) { return dtype == DType::float32 ? 4 : 2; }
PCDARTS_HD int wide_of(DType dtype) { return 16 / size_of(dtype); }

// get_some and put_some from element `at` of an array of `dtype`: kernels that do more than to
// stream are compiled once for all storage types.
template <int N>
__device__ __forceinline__ void get_stored(DType dtype, const void* data, int64_t at, int count,
                                           bool packed, float (&v)[N]) {
  with_stored_type(
      dtype, [&]<class S>() { get_some(static_cast<const S*>(data) + at, count, packed, v); });
}
template <int N>
__device__ __forceinline__ void put_stored(DType dtype, void* data, int64_t at, int count,
                                           bool packed, const float (&v)[N]) {
  with_stored_type(dtype,
                   [&]<class S>() { put_some(static_cast<S*>(data) + at, count, packed, v); });
}

// Whether packs of `elements` may be read from p.
inline bool is_aligned(DType dtype, const void* p, int elements) {
  return reinterpret_cast<uintptr_t>(p) % static_cast<uintptr_t>(elements * size_of(dtype)) == 0;
}
inline const void* element(DType dtype, const void* data, int64_t at) {
  return static_cast<const char*>(data) + at * size_of(dtype);
}
inline void* element(DType dtype, void* data, int64_t at) {
  return static_cast<char*>(data) + at * size_of(dtype);
}

// The next `count` elements of device memory.
template <class T>
T* take(Pieces& pieces, int64_t count) {
  T* p = reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(pieces.base) + pieces.used);
  pieces.used += ceil_div(count * static_cast<int64_t>(sizeof(T)), 256) * 256;
  return p;
}

}  // namespace pcdarts
