// The simulator sees what it is there to see: kernels with a mistake, each of one block.
#include "common/cuda.cuh"
#include "common/warp.cuh"
#include "kernel_test.h"

namespace {

using namespace kernel_test;

// Writes its neighbour's number; without the barrier, what it finds depends on who came first.
void neighbours(bool barrier, float* out) {
  PCDARTS_SHARED(shared);
  const unsigned i = threadIdx.x;
  shared[i] = static_cast<float>(i);
  if (barrier) __syncthreads();
  out[i] = shared[(i + 1) % 64];
}

vector<float> in_order(unsigned order, bool barrier) {
  vector<float> out(64);
  cusim::order = order;
  pcdarts::launch(&neighbours, 1, 64, 64 * sizeof(float), nullptr, barrier, out.data());
  cusim::order = 0;
  return out;
}

void half_waits(float* out) {
  if (threadIdx.x < 32) __syncthreads();
  out[threadIdx.x] = 0;
}
void lane_is_missing(float* out) {
  if (threadIdx.x == 7) return;
  out[threadIdx.x] = pcdarts::warp_sum(1.f);
}
void does_nothing(float*) {}

void expect_refused(void (*kernel)(float*), dim3 grid, dim3 block, size_t shared,
                    const string& what) {
  vector<float> out(2048);
  try {
    pcdarts::launch(kernel, grid, block, shared, nullptr, out.data());
  } catch (const std::runtime_error& error) {
    expect(string(error.what()).find(what) != string::npos, what + ", got " + error.what());
    return;
  }
  expect(false, what + ": not seen");
}

void tests() {
  const vector<float> wanted = in_order(0, true);
  for (unsigned order = 0; order < 4; ++order) {
    const vector<float> got = in_order(order, true), racing = in_order(order, false);
    expect(got == wanted, "with the barrier every order gives the same");
    expect(racing != wanted, "without it no order gives that");
    for (unsigned i = 0; i < 64; ++i) {
      expect(got[i] == static_cast<float>((i + 1) % 64), "and that is right");
    }
  }
  expect_refused(&half_waits, 1, 64, 0, "not every thread reaches __syncthreads");
  expect_refused(&lane_is_missing, 1, 32, 0, "a lane that has exited");
  expect_refused(&does_nothing, 1, 1025, 0, "invalid launch configuration");
  expect_refused(&does_nothing, dim3(1, 65536), 32, 0, "no room for so many channels");
  expect_refused(&does_nothing, dim3(1, 1, 65536), 32, 0, "invalid launch configuration");
  expect_refused(&does_nothing, 1, 32, cusim::kMostShared + 1, "invalid launch configuration");
  expect_refused(&does_nothing, 0, 32, 0, "invalid launch configuration");
}

}  // namespace

int main() { return kernel_test::run(tests); }
