#pragma once
#include <cstdint>

namespace pcdarts {

// Runs body(data, begin, end) on parts of 0..count, on any threads.
struct Parallel {
  void (*run)(int64_t count, void (*body)(void* data, int64_t begin, int64_t end), void* data);
};

}  // namespace pcdarts
