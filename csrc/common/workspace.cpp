#include "common/workspace.h"

#include <cstdlib>
#include <new>

#include "common/uninitialised.h"
#ifdef __linux__
#include <sys/mman.h>
#endif

namespace pcdarts {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

struct Block {
  void* data = nullptr;
  size_t size = 0;
  ~Block() { std::free(data); }
};

}  // namespace

void* workspace(Workspace which, size_t bytes) {
  thread_local Block blocks[kWorkspaces];
  Block& block = blocks[static_cast<int>(which)];
  if (block.size >= bytes) return uninitialised(block.data, bytes);
  const size_t size = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  std::free(block.data);
  block.data = nullptr, block.size = 0;
  block.data = std::aligned_alloc(kHugePage, size);
  if (block.data == nullptr) throw std::bad_alloc();
  block.size = size;
#ifdef MADV_HUGEPAGE
  madvise(block.data, size, MADV_HUGEPAGE);  // fewer page faults, where the system allows it
#endif
  return uninitialised(block.data, bytes);
}

}  // namespace pcdarts
