// Memory that nobody has written yet. Where PCDARTS_NAN_FILL is set, as in the tests, it holds NaN:
// a value that is read too early, or never written, shows in a result.
#pragma once
#include <cstddef>
#include <cstdlib>
#include <cstring>

namespace pcdarts {

inline void* uninitialised(void* memory, size_t bytes) {
  static const bool fills = std::getenv("PCDARTS_NAN_FILL") != nullptr;
  if (fills && bytes > 0) std::memset(memory, 0xFF, bytes);  // NaN in every floating type
  return memory;
}

}  // namespace pcdarts
