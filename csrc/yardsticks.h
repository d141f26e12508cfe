// What one thread of this machine reaches at best, measured: the yardsticks of the benchmarks.
#pragma once
#include <chrono>
#include <cstdint>
#include <cstring>
#include <vector>

#include "common/isa.h"

namespace pcdarts {

// Calls f until `seconds` have passed; returns work units a second.
template <class F>
double rate(double seconds, double units, F f) {
  using Clock = std::chrono::steady_clock;
  f();  // pages and clock rate
  const auto start = Clock::now();
  double done = 0, passed = 0;
  while (passed < seconds) {
    f();
    done += units;
    passed = std::chrono::duration<double>(Clock::now() - start).count();
  }
  return done / passed;
}

constexpr int kChains = 12;  // enough to hide the latency of a multiply-add on two ports
constexpr int64_t kRounds = 20000;

// Vectors of `bytes` in registers, each a chain of sum = sum * a + b. The chains start apart: the
// compiler would compute equal ones once.
#define PCDARTS_MULTIPLY_ADDS_(name, attribute, bytes)                     \
  attribute inline float name() {                                          \
    typedef float V __attribute__((vector_size(bytes)));                   \
    V sum[kChains];                                                        \
    volatile float scale = 0.999f, shift = 0.001f;                         \
    const V a = V{} + scale, b = V{} + shift;                              \
    for (int i = 0; i < kChains; ++i) sum[i] = V{} + shift * i;            \
    for (int64_t i = 0; i < kRounds; ++i) {                                \
      _Pragma("GCC unroll 12") for (V& chain : sum) chain = chain * a + b; \
    }                                                                      \
    V total = {};                                                          \
    for (const V& chain : sum) total += chain;                             \
    return total[0];                                                       \
  }

PCDARTS_MULTIPLY_ADDS_(multiply_adds_16, , 16)
#ifdef PCDARTS_X86_ISAS
PCDARTS_MULTIPLY_ADDS_(multiply_adds_32, __attribute__((target("avx2,fma"))), 32)
PCDARTS_MULTIPLY_ADDS_(multiply_adds_64, __attribute__((target("avx512f"))), 64)
#endif
#undef PCDARTS_MULTIPLY_ADDS_

// Float operations a second of multiply-adds in registers, two each, in the instruction set in use.
inline double peak_flops(double seconds) {
  volatile float sink = 0;
  const auto measure = [&](int64_t bytes, float (*f)()) {
    const double units = 2.0 * kChains * kRounds * static_cast<double>(bytes) / sizeof(float);
    return rate(seconds, units, [&] { sink = sink + f(); });
  };
#ifdef PCDARTS_X86_ISAS
  if (active_isa() == Isa::avx512) return measure(64, multiply_adds_64);
  if (active_isa() == Isa::avx2) return measure(32, multiply_adds_32);
#endif
  return measure(16, multiply_adds_16);
}

// Bytes read and written a second by a copy between buffers that no cache holds.
inline double copy_bandwidth(double seconds) {
  constexpr size_t size = size_t{128} << 20;
  std::vector<char> from(size, 1), to(size, 2);
  return rate(seconds, 2.0 * size, [&] { std::memcpy(to.data(), from.data(), size); });
}

}  // namespace pcdarts
