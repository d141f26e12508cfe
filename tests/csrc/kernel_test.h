// What the tests of the CPU kernels share: numbers, storage types, ways to split parallel work, and
// a workspace that shows every misuse. Included once a program.
#pragma once
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/dtype.h"
#include "common/isa.h"
#include "common/parallel.h"
#include "common/workspace.h"

// Stands in for csrc/common/workspace.cpp: exactly as large as asked for, so that AddressSanitizer
// sees an overrun and a use after the next call, and full of NaN, so that results show a read of
// what was never written.
void* pcdarts::workspace(Workspace which, size_t bytes) {
  static void* blocks[kWorkspaces] = {};
  void*& block = blocks[static_cast<int>(which)];
  std::free(block);
  block = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
  if (block == nullptr) throw std::bad_alloc();
  std::memset(block, 0xff, bytes);
  return block;
}

namespace kernel_test {

using pcdarts::Accumulate;
using pcdarts::Parallel;
using std::string;
using std::vector;
using Numbers = vector<double>;
using Results = std::map<string, Numbers>;

int failures = 0;

void expect(bool holds, const string& what) {
  if (holds) return;
  std::printf("FAILED %s\n", what.c_str());
  ++failures;
}

// Between -1 and 1.
Numbers numbers(size_t count, unsigned seed) {
  Numbers values(count);
  uint64_t state = seed;
  for (double& value : values) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    value = static_cast<double>(state >> 11) / (1ull << 52) - 1;
  }
  return values;
}

template <class T>
vector<T> stored(const Numbers& values) {
  vector<T> result(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    pcdarts::store(&result[i], static_cast<Accumulate<T>>(values[i]));
  }
  return result;
}

template <class T>
Numbers loaded(const vector<T>& values) {
  Numbers result(values.size());
  for (size_t i = 0; i < values.size(); ++i) result[i] = pcdarts::load(&values[i]);
  return result;
}

template <class T>
vector<T> not_a_number(size_t count) {
  return stored<T>(Numbers(count, NAN));
}

template <class T>
pcdarts::DType dtype() {
  return sizeof(T) == 8   ? pcdarts::DType::float64
         : sizeof(T) == 4 ? pcdarts::DType::float32
                          : pcdarts::DType::bfloat16;
}

double dot(const Numbers& a, const Numbers& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

Numbers moved(Numbers from, double step, const Numbers& direction) {
  for (size_t i = 0; i < from.size(); ++i) from[i] += step * direction[i];
  return from;
}

// Norm of the difference over norm of what is wanted; a NaN is a large error.
void expect_near(const Numbers& got, const Numbers& wanted, double limit, const string& what) {
  const Numbers difference = got.size() == wanted.size() ? moved(got, -1, wanted) : Numbers{NAN};
  const double error = std::sqrt(dot(difference, difference) / (dot(wanted, wanted) + 1e-30));
  if (!(error <= limit)) expect(false, what + ": wrong by " + std::to_string(error));
}

void expect_same_bits(const Results& got, const Results& wanted, const string& what) {
  for (const auto& [name, values] : got) {
    const Numbers& other = wanted.at(name);
    expect(values.size() == other.size() &&
               (values.empty() ||
                std::memcmp(values.data(), other.data(), values.size() * sizeof(double)) == 0),
           what + ": other bits in " + name);
  }
}

// The derivative of f(0 + step) by a central difference against what the kernel says. The step is
// small enough to cross no kink of a ReLU or a maximum.
void expect_slope(const std::function<double(double)>& f, double slope, double scale,
                  const string& what) {
  constexpr double step = 1e-7;
  const double wanted = (f(step) - f(-step)) / (2 * step);
  if (!(std::abs(slope - wanted) <= 1e-5 * (scale + std::abs(wanted)))) {
    expect(false, what + ": slope " + std::to_string(slope) + ", wanted " + std::to_string(wanted));
  }
}

using Body = void (*)(void*, int64_t, int64_t);
const vector<Parallel> kSplits = {
    {[](int64_t count, Body body, void* data) { body(data, 0, count); }},
    {[](int64_t count, Body body, void* data) {
      for (int64_t i = count; i-- > 0;) body(data, i, i + 1);
    }},
    {[](int64_t count, Body body, void* data) {
      body(data, count / 3, count);
      if (count / 3 > 0) body(data, 0, count / 3);
    }},
};

// The exit status of main: 77 where this machine lacks the instruction set.
int run(void (*tests)()) {
  try {
    std::printf("%s\n", pcdarts::isa_name(pcdarts::active_isa()));
  } catch (const std::invalid_argument& error) {
    std::printf("skipped: %s\n", error.what());
    return 77;
  }
  tests();
  return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

}  // namespace kernel_test
