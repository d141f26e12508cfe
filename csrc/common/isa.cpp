#include "common/isa.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace pcdarts {
namespace {

constexpr Isa kBestFirst[] = {Isa::avx512, Isa::avx2, Isa::baseline};

Isa choose() {
  const char* wanted = std::getenv("PCDARTS_ISA");
  std::string available;
  for (Isa isa : kBestFirst) {
    if (!has_isa(isa)) continue;
    if (wanted == nullptr || *wanted == '\0' || isa_name(isa) == std::string(wanted)) return isa;
    available += available.empty() ? "" : ", ";
    available += isa_name(isa);
  }
  throw std::invalid_argument("PCDARTS_ISA=" + std::string(wanted) +
                              " is no instruction set that this machine and this build have; "
                              "use one of " +
                              available + ", or unset it to take the best");
}

}  // namespace

Isa active_isa() {
  static const Isa isa = choose();
  return isa;
}

bool has_isa(Isa isa) {
#ifdef PCDARTS_X86_ISAS
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
  if (isa == Isa::avx2) return avx2;
  if (isa == Isa::avx512) {
    return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
  }
#endif
  return isa == Isa::baseline;
}

const char* isa_name(Isa isa) {
  return isa == Isa::avx512 ? "avx512" : isa == Isa::avx2 ? "avx2" : "baseline";
}

}  // namespace pcdarts
