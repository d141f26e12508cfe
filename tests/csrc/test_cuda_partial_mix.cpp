// partial_mix's CUDA kernels in the simulator against the CPU engine, without torch.
#include "kernel_test.h"
#include "partial_mix/cpu.h"
#include "partial_mix/cuda.h"

#include "cusim.h"

namespace {

using namespace kernel_test;
using pcdarts::PartialMix;
using pcdarts::Planes;

struct Sides {  // one engine's results
  vector<float> out, grad_x;
  vector<vector<float>> grad_outputs;
  vector<void*> grad_output_data;
};

void check(int64_t B, int64_t C, int64_t k, int64_t H, int64_t W, int64_t stride, int64_t P) {
  const string where = "partial_mix " + std::to_string(C) + "x" + std::to_string(W) + " stride " +
                       std::to_string(stride);
  const int64_t mixed = C / k, size = H * W, x_size = size * stride * stride;
  vector<int64_t> source(C), destination(C);
  for (int64_t q = 0; q < C; ++q) source[q] = C - 1 - q, destination[q] = q % mixed * k + q / mixed;
  const PartialMix p{pcdarts::DType::float32, B, C, mixed, H, W, stride, P, source.data(),
                     destination.data()};
  vector<vector<float>> outputs;
  vector<Planes> planes;
  for (int64_t i = 0; i < P; ++i) {
    outputs.push_back(stored<float>(numbers(B * mixed * size, static_cast<unsigned>(i) + 7)));
    planes.push_back({outputs.back().data(), mixed * size, size});
  }
  const Numbers weights = loaded(stored<float>(numbers(P, 3)));
  const vector<float> narrow = stored<float>(weights);
  const vector<float> x = stored<float>(numbers(B * C * x_size, 1));
  const vector<float> grad = stored<float>(numbers(B * C * size, 2));
  const Planes x_planes{x.data(), C * x_size, x_size}, grad_planes{grad.data(), C * size, size};
  Sides sides[2];
  for (Sides& s : sides) {
    s.out = not_a_number<float>(B * C * size), s.grad_x = not_a_number<float>(x.size());
    s.grad_outputs.assign(P, not_a_number<float>(B * mixed * size));
    for (vector<float>& g : s.grad_outputs) s.grad_output_data.push_back(g.data());
  }
  Sides &cpu = sides[0], &cuda = sides[1];
  const auto& kernels = pcdarts::partial_mix_kernels();
  Numbers partial(B * mixed * P), sums(P);
  kernels.forward(p, planes.data(), weights.data(), x_planes, cpu.out.data(), 0, B * C);
  kernels.backward(p, grad_planes, planes.data(), weights.data(), x_planes,
                   cpu.grad_output_data.data(), partial.data(), cpu.grad_x.data(), 0, B * C);
  for (size_t i = 0; i < partial.size(); ++i) sums[i % P] += partial[i];
  const size_t bytes = pcdarts::cuda_partial_mix_scratch(p);  // multiples of 256
  void* const scratch = std::aligned_alloc(256, bytes);
  std::memset(scratch, 0xff, bytes);
  vector<float> grad_weights = not_a_number<float>(P);
  for (unsigned order = 0; order < 3; ++order) {
    cusim::order = order;
    pcdarts::cuda_partial_mix_forward(p, planes.data(), narrow.data(), x_planes, cuda.out.data(),
                                      scratch, nullptr);
    pcdarts::cuda_partial_mix_backward(p, grad_planes, planes.data(), narrow.data(), x_planes,
                                       cuda.grad_output_data.data(), grad_weights.data(),
                                       cuda.grad_x.data(), scratch, nullptr);
    expect_near(loaded(cuda.out), loaded(cpu.out), 1e-6, where + " out");
    expect_near(loaded(cuda.grad_x), loaded(cpu.grad_x), 0, where + " grad_x");
    expect_near(loaded(grad_weights), sums, 1e-5, where + " grad_weights");
    for (int64_t i = 0; i < P; ++i) {
      expect_near(loaded(cuda.grad_outputs[i]), loaded(cpu.grad_outputs[i]), 1e-6,
                  where + " grad_outputs");
    }
  }
  cusim::order = 0;
  std::free(scratch);
}

void tests() {
  check(2, 8, 4, 5, 8, 1, 3), check(1, 6, 2, 3, 5, 2, 2), check(3, 4, 1, 1, 1, 1, 1);
  check(1, 12, 3, 16, 20, 2, 7), check(2, 5, 5, 1, 3, 1, 8), check(4, 4, 4, 1, 1, 2, 2);
}

}  // namespace

int main() { return kernel_test::run(tests); }
