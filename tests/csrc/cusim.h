// Runs CUDA C++ kernels on the CPU, for tests: the threads of a block are fibres, blocks follow one
// another. csrc/common/cuda.cuh includes this in place of the CUDA runtime where nvcc is absent.
//
// Found here: deadlocked barriers, warp collectives that miss a lane, illegal launches, and, with
// AddressSanitizer, accesses out of bounds. `cusim::order` changes the order in which threads
// run: a missing barrier then changes the result. Races between blocks are not found.
#pragma once
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __grid_constant__
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(n) alignas(n)

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};

namespace cusim {

constexpr size_t kStack = 256 * 1024;
constexpr size_t kMostShared = 99 * 1024;  // of a block, on the smallest of the supported devices

struct Launch {
  const void* kernel;
  int64_t threads, shared;  // of a block; bytes
  int64_t moved;            // bytes of global memory, where counted
};
inline std::vector<Launch> launches;
enum class Mode { run, count, dry };  // dry: launches are noted, not run
inline Mode mode = Mode::run;

// What a block loads and stores through csrc/common/memory.cuh: the bytes that it must fetch from
// beyond its own cache, so that an address counts once a block.
struct Span {
  uintptr_t begin, end;
};
struct Touched {
  std::vector<Span> spans;
  int64_t bytes() {
    std::sort(spans.begin(), spans.end(), [](Span a, Span b) { return a.begin < b.begin; });
    int64_t sum = 0;
    uintptr_t end = 0;
    for (const Span& span : spans) {
      const uintptr_t begin = std::max(end, span.begin);
      if (span.end > begin) sum += static_cast<int64_t>(span.end - begin), end = span.end;
    }
    spans.clear();
    return sum;
  }
};
inline Touched loads, stores;
inline void touch(Touched& touched, const void* p, size_t bytes) {
  const uintptr_t begin = reinterpret_cast<uintptr_t>(p);
  if (mode == Mode::count) touched.spans.push_back({begin, begin + bytes});
}
inline unsigned order = 0;  // 0: ascending, 1: descending, else the seed of a shuffle

enum class Wait { none, block, warp, exited };
struct Fibre {
  ucontext_t context;
  void* stack_pointer;
  char* stack;
  dim3 thread;
  Wait wait;
  unsigned mask;  // of the warp collective it waits in
  int source;     // the lane that a shuffle reads
  alignas(8) unsigned char in[8], out[8];
};

struct Block {
  dim3 index, grid, size;
  int threads;
  std::vector<Fibre> fibres;
  std::vector<float> shared;
  Fibre* current;
  void* scheduler;
  ucontext_t scheduler_context;
  void (*body)(void*);
  void* data;
};
inline Block block = {};

[[noreturn]] inline void fail(const std::string& what) {
  throw std::runtime_error("cusim: " + what);
}

#if defined(__x86_64__) && !defined(CUSIM_UCONTEXT)
extern "C" void cusim_switch(void** save, void* to);
asm(R"(
.weak cusim_switch
.type cusim_switch,@function
cusim_switch:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp,(%rdi)
  movq %rsi,%rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
.size cusim_switch,.-cusim_switch
)");
inline void to_scheduler() { cusim_switch(&block.current->stack_pointer, block.scheduler); }
inline void to_fibre(Fibre& fibre) {
  block.current = &fibre;
  cusim_switch(&block.scheduler, fibre.stack_pointer);
}
inline void enter();
inline void prepare(Fibre& fibre) {
  void** top = reinterpret_cast<void**>(fibre.stack + kStack - 16);
  *--top = nullptr;  // the return address of enter
  *--top = reinterpret_cast<void*>(&enter);
  for (int i = 0; i < 6; ++i) *--top = nullptr;  // the registers that cusim_switch restores
  fibre.stack_pointer = top;
}
#else
inline void to_scheduler() { swapcontext(&block.current->context, &block.scheduler_context); }
inline void to_fibre(Fibre& fibre) {
  block.current = &fibre;
  swapcontext(&block.scheduler_context, &fibre.context);
}
inline void enter();
inline void prepare(Fibre& fibre) {
  getcontext(&fibre.context);
  fibre.context.uc_stack = {fibre.stack, 0, kStack};
  fibre.context.uc_link = nullptr;
  makecontext(&fibre.context, enter, 0);
}
#endif

inline void enter() {
  block.body(block.data);
  block.current->wait = Wait::exited;
  to_scheduler();
  std::abort();
}

// Completes the collectives of one warp whose lanes have all arrived.
inline bool resolve_warp(int first) {
  bool released = false;
  const int end = std::min(block.threads, first + 32);
  for (int i = first; i < end; ++i) {
    if (block.fibres[i].wait != Wait::warp) continue;
    const unsigned mask = block.fibres[i].mask;
    bool arrived = true;
    for (int lane = 0; lane < 32; ++lane) {
      if (((mask >> lane) & 1) == 0) continue;
      if (first + lane >= end || block.fibres[first + lane].wait == Wait::exited) {
        fail("a warp collective waits for a lane that has exited or does not exist");
      }
      const Fibre& other = block.fibres[first + lane];
      arrived &= other.wait == Wait::warp && other.mask == mask;
    }
    if (!arrived) continue;
    for (int lane = 0; lane < 32; ++lane) {
      if (((mask >> lane) & 1) == 0) continue;
      Fibre& fibre = block.fibres[first + lane];
      std::memcpy(fibre.out, block.fibres[first + fibre.source].in, sizeof fibre.out);
      fibre.wait = Wait::none;
    }
    released = true;
  }
  return released;
}

inline std::vector<int> thread_order() {
  std::vector<int> result(block.threads);
  std::iota(result.begin(), result.end(), 0);
  if (order == 1) std::reverse(result.begin(), result.end());
  uint64_t state = order;
  for (int i = block.threads - 1; order > 1 && i > 0; --i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    std::swap(result[i], result[(state >> 33) % (i + 1)]);
  }
  return result;
}

inline void run_block(const std::vector<int>& in_order) {
  for (Fibre& fibre : block.fibres) fibre.wait = Wait::none, prepare(fibre);
  for (;;) {
    bool progress = false;
    for (const int i : in_order) {
      if (block.fibres[i].wait != Wait::none) continue;
      progress = true;
      to_fibre(block.fibres[i]);
    }
    for (int warp = 0; warp < block.threads; warp += 32) progress |= resolve_warp(warp);
    if (progress) continue;
    int waiting = 0, exited = 0;
    for (const Fibre& fibre : block.fibres) {
      waiting += fibre.wait == Wait::block, exited += fibre.wait == Wait::exited;
    }
    if (exited == block.threads) return;
    if (waiting != block.threads) fail("deadlock: not every thread reaches __syncthreads");
    for (Fibre& fibre : block.fibres) fibre.wait = Wait::none;
  }
}

inline void set_size(dim3 size) {
  block.size = size;
  block.threads = static_cast<int>(size.x * size.y * size.z);
  while (static_cast<int>(block.fibres.size()) > block.threads) {
    munmap(block.fibres.back().stack, kStack);
    block.fibres.pop_back();
  }
  for (int i = 0; i < block.threads; ++i) {
    if (i == static_cast<int>(block.fibres.size())) {
      void* stack = mmap(nullptr, kStack, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (stack == MAP_FAILED) fail("no memory for a stack");
      block.fibres.emplace_back();
      block.fibres.back().stack = static_cast<char*>(stack);
    }
    const unsigned n = static_cast<unsigned>(i);
    block.fibres[i].thread = dim3(n % size.x, n / size.x % size.y, n / (size.x * size.y));
  }
}

template <class F>
void run(const void* kernel, dim3 grid, dim3 size, size_t shared, F& body) {
  const uint64_t blocks = uint64_t{grid.x} * grid.y * grid.z;
  const uint64_t threads = uint64_t{size.x} * size.y * size.z;
  if (blocks == 0 || grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535 || threads == 0 ||
      threads > 1024 || size.z > 64 || shared > kMostShared) {
    fail("invalid launch configuration");
  }
  launches.push_back({kernel, static_cast<int64_t>(threads), static_cast<int64_t>(shared), 0});
  if (mode == Mode::dry) return;
  set_size(size);
  block.grid = grid;
  block.body = [](void* data) { (*static_cast<F*>(data))(); };
  block.data = &body;
  const std::vector<int> in_order = thread_order();
  for (uint64_t i = 0; i < blocks; ++i) {
    block.index =
        dim3(static_cast<unsigned>(i % grid.x), static_cast<unsigned>(i / grid.x % grid.y),
             static_cast<unsigned>(i / (uint64_t{grid.x} * grid.y)));
    block.shared = std::vector<float>(shared / sizeof(float), NAN);  // rubbish, as on a GPU
    run_block(in_order);
    launches.back().moved += loads.bytes() + stores.bytes();
  }
}

// Memory of the block is 16-byte aligned, as on a GPU: operator new gives that.
inline float* shared_memory() { return block.shared.data(); }

template <class T>
T shuffle(unsigned mask, T value, int source) {
  static_assert(sizeof(T) <= 8);
  Fibre& fibre = *block.current;
  std::memcpy(fibre.in, &value, sizeof(T));
  fibre.mask = mask, fibre.source = source, fibre.wait = Wait::warp;
  to_scheduler();
  T result;
  std::memcpy(&result, fibre.out, sizeof(T));
  return result;
}
inline int lane() { return static_cast<int>((block.current - block.fibres.data()) % 32); }

}  // namespace cusim

#define threadIdx (cusim::block.current->thread)
#define blockIdx (cusim::block.index)
#define blockDim (cusim::block.size)
#define gridDim (cusim::block.grid)

inline void __syncthreads() {
  cusim::block.current->wait = cusim::Wait::block;
  cusim::to_scheduler();
}
template <class T>
T __shfl_sync(unsigned mask, T value, int source) {
  return cusim::shuffle(mask, value, source & 31);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int with) {
  return cusim::shuffle(mask, value, cusim::lane() ^ with);
}
