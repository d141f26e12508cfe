// Element types of the kernels, and the type they accumulate in.
#pragma once
#include <cstdint>

#include "common/host_device.h"

namespace pcdarts {

enum class DType { float32, float64, bfloat16, float16 };

struct bfloat16 {
  uint16_t bits;
};
struct float16 {  // of the CUDA engine only
  uint16_t bits;
};

template <class T>
struct AccumulateOf {
  using type = T;
};
template <>
struct AccumulateOf<bfloat16> {
  using type = float;
};
template <>
struct AccumulateOf<float16> {
  using type = float;
};
template <class T>
using Accumulate = typename AccumulateOf<T>::type;

// load: an element as its accumulation type; store: rounded to nearest even, a NaN stays a NaN.
PCDARTS_HD float load(const float* p) { return *p; }
PCDARTS_HD double load(const double* p) { return *p; }
PCDARTS_HD float load(const bfloat16* p) {
  const uint32_t bits = static_cast<uint32_t>(p->bits) << 16;
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

PCDARTS_HD void store(float* p, float value) { *p = value; }
PCDARTS_HD void store(double* p, double value) { *p = value; }
PCDARTS_HD void store(bfloat16* p, float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const uint32_t quiet = (bits >> 16) | 0x40;
  p->bits = static_cast<uint16_t>(value == value ? rounded : quiet);
}

#ifdef __CUDACC__
__device__ __forceinline__ float load(const float16* p) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(p->bits));
  return value;
}
__device__ __forceinline__ void store(float16* p, float value) {
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(p->bits) : "f"(value));
}
#else
PCDARTS_HD float load(const float16* p) {
  const uint32_t rest = p->bits & 0x7fffu, sign = (p->bits & 0x8000u) << 16;
  float value;
  if (rest < 0x7c00) {
    const uint32_t bits = rest << 13;  // as a float 2^-112 times the value, subnormals too
    __builtin_memcpy(&value, &bits, sizeof value);
    value *= 0x1p112f;
    return sign ? -value : value;
  }
  const uint32_t bits = sign | 0x7f800000u | rest << 13;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}
PCDARTS_HD void store(float16* p, float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  const uint32_t rest = bits & 0x7fffffffu, sign = bits >> 16 & 0x8000u;
  uint32_t half;
  if (rest > 0x7f800000u) {
    half = 0x7e00;
  } else if (rest >= 0x477ff000u) {  // from 65520 on
    half = 0x7c00;
  } else if (rest >= 0x38800000u) {  // from 2^-14 on: rounded to nearest even, its exponent moved
    half = (rest - (112u << 23) + 0xfff + (rest >> 13 & 1)) >> 13;
  } else {  // 0.5's last bit is worth 2^-24, as a subnormal's
    const float shifted = (value < 0 ? -value : value) + 0.5f;
    __builtin_memcpy(&half, &shifted, sizeof half);
    half -= 0x3f000000u;
  }
  p->bits = static_cast<uint16_t>(sign | half);
}
#endif

// Calls f.template operator()<T>() with the element type of `dtype`, one of the CPU engine's.
template <class F>
PCDARTS_HD void with_element_type(DType dtype, const F& f) {
  if (dtype == DType::float32) f.template operator()<float>();
  if (dtype == DType::float64) f.template operator()<double>();
  if (dtype == DType::bfloat16) f.template operator()<bfloat16>();
}

}  // namespace pcdarts
