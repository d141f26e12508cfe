// relu_conv_bn without torch: every instruction set against plain loops, also under the sanitizers.
#include "kernel_test.h"
#include "naive.h"
#include "relu_conv_bn/cpu.h"

namespace {

using namespace kernel_test;
using pcdarts::ReluConvBn;

struct Arguments {
  Numbers x, weights[2], mean, variance, grad_out;
};

struct Wants {
  bool x, weights;
};

int64_t x_size(const ReluConvBn& p) {
  return p.batch * p.in_channels * p.height * p.width * p.stride * p.stride;
}

Arguments arguments_of(const ReluConvBn& p) {
  Arguments a;
  a.x = numbers(x_size(p), 1);
  a.weights[0] = numbers(p.even_outputs * p.in_channels, 2);
  a.weights[1] = numbers((p.out_channels - p.even_outputs) * p.in_channels, 3);
  a.mean = numbers(p.out_channels, 4), a.variance = numbers(p.out_channels, 5);
  for (double& value : a.variance) value = 1.5 + value;
  a.grad_out = numbers(p.batch * p.out_channels * p.height * p.width, 6);
  return a;
}

template <class S>
Arguments rounded(Arguments a) {
  for (Numbers* n : {&a.x, &a.grad_out}) *n = loaded(stored<S>(*n));
  for (Numbers* n : {&a.weights[0], &a.weights[1], &a.mean, &a.variance}) {
    *n = loaded(stored<Accumulate<S>>(*n));
  }
  return a;
}

template <class S>
Results kernel(ReluConvBn p, const Arguments& a, Wants wants, const Parallel& parallel) {
  using T = Accumulate<S>;
  p.dtype = dtype<S>();
  const vector<S> x = stored<S>(a.x), grad_out = stored<S>(a.grad_out);
  const vector<T> w0 = stored<T>(a.weights[0]), w1 = stored<T>(a.weights[1]);
  const void* const weights[] = {w0.data(), w1.data()};
  vector<T> mean = p.training ? not_a_number<T>(p.out_channels) : stored<T>(a.mean);
  vector<T> variance = p.training ? mean : stored<T>(a.variance);
  vector<S> out = not_a_number<S>(a.grad_out.size());
  vector<S> grad_x = not_a_number<S>(wants.x ? x.size() : 0);
  vector<T> g0 = not_a_number<T>(w0.size()), g1 = not_a_number<T>(w1.size());
  void* const grad_weights[] = {g0.data(), g1.data()};
  const auto& kernels = pcdarts::relu_conv_bn_kernels();
  const pcdarts::ReluConvBnForward forward = {x.data(), weights, p.plain ? nullptr : mean.data(),
                                              p.plain ? nullptr : variance.data(), out.data()};
  kernels.forward(p, forward, parallel);
  kernels.backward(p,
                   {forward, grad_out.data(), wants.x ? grad_x.data() : nullptr,
                    wants.weights ? grad_weights : nullptr},
                   parallel);
  Results results = {{"out", loaded(out)}};
  if (!p.plain) results["mean"] = loaded(mean), results["variance"] = loaded(variance);
  if (wants.x) results["grad_x"] = loaded(grad_x);
  if (wants.weights) {
    results["grad_weights[0]"] = loaded(g0), results["grad_weights[1]"] = loaded(g1);
  }
  return results;
}

Results expected(const ReluConvBn& p, Arguments a) {
  const naive::Maps x = {p.batch, p.in_channels, p.height * p.stride, p.width * p.stride, a.x};
  const naive::Maps r = p.linear ? x : naive::relu(x);
  const naive::Maps z = p.stride == 1
                            ? naive::pointwise(r, a.weights[0], p.out_channels)
                            : naive::factorized(r, a.weights[0], a.weights[1], p.out_channels);
  if (p.plain) return {{"out", z.data}};
  const naive::Maps out = naive::batch_norm(z, a.mean.data(), a.variance.data(), p.training, p.eps);
  return {{"out", out.data}, {"mean", a.mean}, {"variance", a.variance}};
}

void check_gradients(const ReluConvBn& p, const Arguments& a, const Results& got,
                     const string& where) {
  Arguments changed = a;
  const std::pair<const char*, Numbers*> leaves[] = {{"grad_x", &changed.x},
                                                     {"grad_weights[0]", &changed.weights[0]},
                                                     {"grad_weights[1]", &changed.weights[1]}};
  for (const auto& [name, value] : leaves) {
    const Numbers start = *value, direction = numbers(start.size(), 7), &grad = got.at(name);
    const auto moved_by = [&, value = value](double step) {
      *value = moved(start, step, direction);
      return dot(expected(p, changed).at("out"), a.grad_out);
    };
    expect_slope(moved_by, dot(grad, direction), std::sqrt(dot(grad, grad)), where + " " + name);
    *value = start;
  }
}

// The results in S against the ones in double, which are right.
template <class S>
void check_dtype(const ReluConvBn& p, const Arguments& exact, double limit, const string& where) {
  const Arguments a = rounded<S>(exact);
  const Results wanted = kernel<double>(p, a, {true, true}, kSplits[0]);
  const Results got = kernel<S>(p, a, {true, true}, kSplits[0]);
  for (const auto& [name, values] : got) {
    expect_near(values, wanted.at(name), limit, where + " " + name);
  }
  for (size_t i = 1; i < kSplits.size(); ++i) {
    expect_same_bits(kernel<S>(p, a, {true, true}, kSplits[i]), got, where + " split");
  }
  expect_same_bits(kernel<S>(p, a, {true, false}, kSplits[0]), got, where + " without weights");
  expect_same_bits(kernel<S>(p, a, {false, true}, kSplits[0]), got, where + " without x");
}

void check(int64_t batch, int64_t in, int64_t out, int64_t height, int64_t width, int stride,
           bool training, bool linear = false, bool plain = false) {
  ReluConvBn p = {};
  p.batch = batch, p.in_channels = in, p.out_channels = out;
  p.height = height, p.width = width, p.stride = stride;
  p.even_outputs = stride == 1 ? out : out - out / 2;
  p.training = training, p.eps = 1e-3, p.linear = linear, p.plain = plain;
  string where;
  for (int64_t size : {batch, in, out, height, width, int64_t{stride}}) {
    where += std::to_string(size) + "x";
  }
  where += training ? "training" : "eval";
  where += linear ? " linear" : "";
  where += plain ? " plain" : "";
  const Arguments a = arguments_of(p);
  const Results got = kernel<double>(p, a, {true, true}, kSplits[0]);
  for (const auto& [name, values] : expected(p, a)) {
    expect_near(got.at(name), values, 1e-10, where + " " + name);
  }
  check_gradients(p, a, got, where);
  check_dtype<double>(p, a, 0, where + " float64");
  check_dtype<float>(p, a, 1e-4, where + " float32");
  // batch-norm undoes a scale: the gradient of a single input's weight is all rounding
  check_dtype<pcdarts::bfloat16>(p, a, in > 1 ? 3e-2 : INFINITY, where + " bfloat16");
}

void tests() {
  const int64_t sizes[] = {1, 2, 4, 7, 8, 9, 14, 17}, channels[] = {1, 2, 3, 4, 5, 6, 8, 13};
  int turn = 0;
  for (int64_t height : sizes) {
    for (int64_t width : sizes) {
      for (int stride : {1, 2}) {
        const int64_t in = channels[turn % 8], out = channels[(turn / 3 + 2) % 8];
        const bool training = turn % 4 != 3, linear = turn % 3 == 1, plain = turn % 5 == 2;
        check(2 + turn % 9, in, out, height, width, stride, training, linear, plain);
        if (stride == 1 && width < 8 && height * width < 64) {  // float in stacks
          check(32 + turn / 2 % 2 * 8, in, out, height, width, 1, training, linear, plain);
        }
        ++turn;
      }
    }
  }
  check(1, 48, 16, 9, 3, 1, true);
  check(17, 12, 64, 2, 8, 2, true);
  check(1, 3, 2, 40, 33, 2, false);
  check(3, 4, 4, 65, 40, 1, true);              // more than one band
  check(9, 64, 10, 1, 1, 1, true, true, true);  // a classifier
  check(2, 27, 12, 6, 7, 1, true, true);        // the columns of a stem
}

}  // namespace

int main() { return kernel_test::run(tests); }
