// The kernel without torch: every instruction set (PCDARTS_ISA) against plain loops, also under
// the sanitizers. Exits with 77 where this machine lacks the instruction set.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <vector>

#include "common/isa.h"
#include "partial_mix/cpu.h"

namespace {

using pcdarts::PartialMix;
using pcdarts::Planes;
using std::vector;

int failures = 0;

void expect_near(double got, double wanted, const char* what) {
  if (std::abs(got - wanted) <= 1e-5 * (1 + std::abs(wanted))) return;
  std::printf("%s: got %.9g, wanted %.9g\n", what, got, wanted);
  ++failures;
}

vector<float> numbers(size_t count, unsigned seed) {
  vector<float> values(count);
  for (float& value : values) {
    seed = seed * 1664525u + 1013904223u;
    value = static_cast<float>(seed >> 8) / (1 << 24) - 0.5f;
  }
  return values;
}

void check(int64_t B, int64_t C, int64_t k, int64_t H, int64_t W, int64_t stride, int64_t P) {
  const int64_t mixed = C / k, size = H * W, row = W * stride, x_size = size * stride * stride;
  vector<int64_t> source(C), destination(C);
  for (int64_t q = 0; q < C; ++q) source[q] = C - 1 - q, destination[q] = q % mixed * k + q / mixed;
  const PartialMix p{pcdarts::DType::float32, B, C, mixed, H, W, stride, P, source.data(),
                     destination.data()};
  vector<vector<float>> o, grad_o(P, vector<float>(B * mixed * size, NAN));
  vector<Planes> outputs;
  vector<void*> grad_outputs;
  vector<double> weights, partial(B * mixed * P, NAN);
  for (int64_t i = 0; i < P; ++i) {
    o.push_back(numbers(B * mixed * size, 7 + i));
    weights.push_back(0.25 * (1 + i));
    grad_outputs.push_back(grad_o[i].data());
  }
  for (auto& values : o) outputs.push_back({values.data(), mixed * size, size});
  const vector<float> x = numbers(B * C * x_size, 1), grad = numbers(B * C * size, 2);
  vector<float> out(B * C * size, NAN), grad_x(B * C * x_size, NAN);
  const Planes x_planes{x.data(), C * x_size, x_size}, grad_planes{grad.data(), C * size, size};
  const auto& kernels = pcdarts::partial_mix_kernels();
  for (int64_t unit = 0; unit < B * C; ++unit) {  // the smallest calls: any split must do
    kernels.forward(p, outputs.data(), weights.data(), x_planes, out.data(), unit, unit + 1);
    kernels.backward(p, grad_planes, outputs.data(), weights.data(), x_planes, grad_outputs.data(),
                     partial.data(), grad_x.data(), unit, unit + 1);
  }
  vector<float> wanted_grad_x(grad_x.size(), 0);
  for (int64_t b = 0; b < B; ++b) {
    for (int64_t q = 0; q < C; ++q) {
      const int64_t to = (b * C + destination[q]) * size, from = (b * C + source[q]) * x_size;
      for (int64_t s = 0; s < size; ++s) {
        double wanted = 0;
        if (q < mixed) {
          for (int64_t i = 0; i < P; ++i) {
            const int64_t at = (b * mixed + q) * size + s;
            wanted += weights[i] * o[i][at];
            expect_near(grad_o[i][at], weights[i] * grad[to + s], "grad_outputs");
          }
        } else {
          int64_t best = from + s / W * stride * row + s % W * stride;
          const int64_t first = best;
          for (int64_t j = 0; j < stride * stride; ++j) {
            const int64_t at = first + j / stride * row + j % stride;
            if (x[at] > x[best]) best = at;
          }
          wanted = x[best];
          wanted_grad_x[best] = grad[to + s];
        }
        expect_near(out[to + s], wanted, "out");
      }
      for (int64_t i = 0; q < mixed && i < P; ++i) {
        double dot = 0;
        for (int64_t s = 0; s < size; ++s) dot += grad[to + s] * o[i][(b * mixed + q) * size + s];
        expect_near(partial[(b * mixed + q) * P + i], dot, "grad_weights");
      }
    }
  }
  for (size_t j = 0; j < grad_x.size(); ++j) expect_near(grad_x[j], wanted_grad_x[j], "grad_x");
}

}  // namespace

int main() {
  try {
    std::printf("%s\n", pcdarts::isa_name(pcdarts::active_isa()));
  } catch (const std::invalid_argument& error) {
    std::printf("skipped: %s\n", error.what());
    return 77;
  }
  check(1, 1, 1, 1, 1, 1, 1);
  check(2, 8, 4, 8, 8, 1, 8);
  check(2, 6, 2, 7, 5, 1, 3);
  check(1, 8, 2, 3, 3, 2, 2);
  check(3, 12, 4, 11, 9, 2, 0);
  check(1, 4, 4, 1, 33, 2, 5);
  return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
