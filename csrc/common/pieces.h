// Memory dealt out piece by piece. A layout runs twice: from a null base, which only counts, then
// in as much as was counted.
#pragma once
#include <cstddef>

namespace pcdarts {

struct Pieces {
  char* base;
  size_t used;
};

}  // namespace pcdarts
