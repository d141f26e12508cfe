// Working memory that outlives a call: fresh memory for every call would cost a page fault every
// 4 KiB. Every thread keeps what it once needed until it ends.
#pragma once
#include <cstddef>
#include <cstdint>

namespace pcdarts {

enum class Workspace { scratch, arena, stacks };
inline constexpr int kWorkspaces = 3;

// At least `bytes` of this thread's memory, 64-byte aligned, with whatever it held before. A second
// call for the same workspace ends the first one's use. Throws std::bad_alloc.
void* workspace(Workspace which, size_t bytes);

}  // namespace pcdarts
