// The CUDA kernels in the simulator against the CPU engine in double, without torch: every buffer
// has exactly the size it must have and starts as NaN, also under the sanitizers. The threads of a
// block run in several orders, to the same bits.
#include "cusim.h"
#include "kernel_test.h"
#include "mixed_cell/cuda.h"
#include "naive_cell.h"
#include "relu_conv_bn/cuda.h"

namespace {

using namespace kernel_test;
using pcdarts::ReluConvBn;

struct Mode {
  bool store, inputs, weights, alpha, beta;
};
constexpr Mode kAll = {false, true, true, true, true};
const Parallel kAlone = kSplits[0];

// Device memory as torch gives it: 256-byte aligned, full of NaN.
struct DeviceMemory {
  explicit DeviceMemory(size_t bytes) : size((bytes + 255) / 256 * 256) {
    data = std::aligned_alloc(256, size > 0 ? size : 256);
    std::memset(data, 0xff, size);
  }
  ~DeviceMemory() { std::free(data); }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  size_t size;
  void* data;
};

// As if all processes had the same batch: everything must be as it is for one, to the bit.
constexpr pcdarts::Processes kThreeAlike = {
    3, nullptr, nullptr, [](int64_t count, const float* own, float* all, int64_t size) {
      for (int64_t rank = 0; rank < count; ++rank) std::copy(own, own + size, all + rank * size);
    }};

template <class T>
constexpr bool on_device = sizeof(T) < 8;  // double runs on the CPU engine: the oracle

template <class S>
Results cell(MixedCell p, const Arguments& a, Mode mode) {
  using T = Accumulate<S>;
  p.dtype = dtype<S>();
  vector<vector<S>> inputs, grad_inputs;
  vector<vector<T>> weights, grad_weights;
  vector<const void*> input_data, weight_data;
  vector<void*> grad_input_data, grad_weight_data;
  for (const Numbers& x : a.inputs) {
    inputs.push_back(stored<S>(x)), grad_inputs.push_back(not_a_number<S>(x.size()));
  }
  for (const Numbers& w : a.weights) {
    weights.push_back(stored<T>(w)), grad_weights.push_back(not_a_number<T>(w.size()));
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    input_data.push_back(inputs[i].data());
    grad_input_data.push_back(mode.inputs ? grad_inputs[i].data() : nullptr);
  }
  for (size_t i = 0; i < weights.size(); ++i) {
    weight_data.push_back(weights[i].data()), grad_weight_data.push_back(grad_weights[i].data());
  }
  const vector<T> alpha = stored<T>(a.alpha), beta = stored<T>(a.beta);
  vector<T> mean = p.training ? not_a_number<T>(a.mean.size()) : stored<T>(a.mean);
  vector<T> variance = p.training ? mean : stored<T>(a.variance);
  const int64_t z_size =
      on_device<S> ? pcdarts::cuda_z_size(p) : pcdarts::mixed_cell_kernels().z_size(p);
  vector<T> z = not_a_number<T>(mode.store ? z_size : 0);
  vector<T> grad_alpha(alpha.size()), grad_beta = not_a_number<T>(beta.size());
  const vector<S> grad_out = stored<S>(a.grad_out);
  vector<S> out = not_a_number<S>(grad_out.size());
  const pcdarts::MixedCellForward forward = {input_data.data(),
                                             weight_data.data(),
                                             alpha.data(),
                                             beta.data(),
                                             mean.data(),
                                             variance.data(),
                                             mode.store ? z.data() : nullptr,
                                             out.data()};
  const pcdarts::MixedCellBackward backward = {forward,
                                               grad_out.data(),
                                               grad_input_data.data(),
                                               mode.weights ? grad_weight_data.data() : nullptr,
                                               mode.alpha ? grad_alpha.data() : nullptr,
                                               mode.beta ? grad_beta.data() : nullptr};
  if constexpr (on_device<S>) {
    const bool stored_z = forward.z != nullptr;
    DeviceMemory first(pcdarts::cuda_forward_scratch(p, stored_z));
    pcdarts::cuda_forward(p, forward, first.data, nullptr);
    DeviceMemory second(pcdarts::cuda_backward_scratch(p, mode.weights));
    pcdarts::cuda_backward(p, backward, second.data, nullptr);
  } else {
    pcdarts::mixed_cell_kernels().forward(p, forward, kAlone);
    pcdarts::mixed_cell_kernels().backward(p, backward, kAlone);
  }
  Results results = {{"out", loaded(out)}, {"mean", loaded(mean)}, {"variance", loaded(variance)}};
  for (size_t i = 0; mode.inputs && i < grad_inputs.size(); ++i) {
    results["grad_inputs" + std::to_string(i)] = loaded(grad_inputs[i]);
  }
  for (const vector<T>& grad : grad_weights) {  // as one: some vanish but for rounding
    const Numbers values = loaded(grad);
    Numbers& all = results["grad_weights"];
    all.insert(all.end(), values.begin(), values.end());
  }
  if (!mode.weights) results.erase("grad_weights");
  if (mode.alpha) results["grad_alpha"] = loaded(grad_alpha);
  if (mode.beta) results["grad_beta"] = loaded(grad_beta);
  return results;
}

void check(MixedCell p, int k, const string& where) {
  vector<int64_t> source(p.sampled * k), destination(source.size());
  p.channels = p.sampled * k;
  for (int64_t q = 0; q < p.channels; ++q) {
    source[q] = p.channels - 1 - q, destination[q] = q % p.sampled * k + q / p.sampled;
  }
  p.source = source.data(), p.destination = destination.data(), p.eps = 1e-3;
  Arguments a = arguments_of(p);
  for (Numbers& x : a.inputs) x = loaded(stored<float>(x));
  for (Numbers& w : a.weights) w = loaded(stored<float>(w));
  for (Numbers* n : {&a.alpha, &a.beta, &a.mean, &a.variance}) *n = loaded(stored<float>(*n));
  a.grad_out = loaded(stored<float>(a.grad_out));
  const Results wanted = cell<double>(p, a, kAll), got = cell<float>(p, a, kAll);
  for (const auto& [name, values] : got) {
    expect_near(values, wanted.at(name), p.sampled == 1 ? 1e-3 : 1e-4, where + " " + name);
  }
  constexpr Mode modes[] = {{true, true, true, true, true},
                            {false, true, false, true, true},
                            {true, false, true, false, false},
                            {false, false, false, true, false}};
  for (unsigned i = 0; i < 4; ++i) {
    cusim::order = i;  // ascending, descending, then two shuffles
    expect_same_bits(cell<float>(p, a, modes[i]), got, where + " order " + std::to_string(i));
  }
  p.processes = kThreeAlike;
  expect_same_bits(cell<float>(p, a, kAll), got, where + " of three processes");
  cusim::order = 0;
}

constexpr Primitive kNone = {Kind::none, 0}, kMax = {Kind::max_pool, 3},
                    kAverage = {Kind::avg_pool, 3}, kSkip = {Kind::skip, 0},
                    kSep3 = {Kind::sep_conv, 3}, kSep5 = {Kind::sep_conv, 5},
                    kDil3 = {Kind::dil_conv, 3}, kDil5 = {Kind::dil_conv, 5};

void cells() {
  const vector<Primitive> all = {kNone, kMax, kAverage, kSkip, kSep3, kSep5, kDil3, kDil5};
  vector<Primitive> twice = all;  // 16 primitives: more convolutions than one launch takes
  twice.insert(twice.end(), all.begin(), all.end());
  struct Row {
    int64_t batch, sampled, height, width;
    int stride, inputs, nodes, k;
    bool training;
    vector<Primitive> primitives;
  };
  const vector<Row> rows = {
      {2, 4, 8, 8, 1, 1, 1, 4, true, all},
      {3, 2, 5, 7, 2, 1, 1, 2, true, all},
      {1, 6, 9, 33, 1, 1, 1, 1, true, all},
      {9, 4, 2, 3, 1, 2, 3, 2, true, all},
      {2, 3, 4, 4, 2, 2, 2, 2, false, all},
      {2, 12, 4, 3, 2, 1, 1, 1, true, {kDil5, kSkip, kMax}},
      {1, 17, 3, 4, 1, 1, 1, 1, true, {kSep3, kAverage}},
      {1, 36, 2, 4, 2, 1, 1, 1, true, {kSep5, kDil3, kSkip}},
      {2, 1, 6, 1, 1, 1, 1, 3, true, all},
      {2, 2, 3, 5, 1, 1, 2, 1, true, {kNone}},
      {2, 8, 1, 1, 1, 2, 2, 2, true, all},
      {1, 4, 1, 1, 2, 1, 1, 4, false, all},
      {2, 2, 4, 4, 2, 2, 4, 1, true, twice},
  };
  for (size_t i = 0; i < rows.size(); ++i) {
    const Row& row = rows[i];
    MixedCell p = {};
    p.batch = row.batch, p.sampled = row.sampled, p.height = row.height, p.width = row.width;
    p.stride = row.stride, p.inputs = row.inputs, p.nodes = row.nodes, p.training = row.training;
    for (const Primitive& primitive : row.primitives) p.primitive[p.primitives++] = primitive;
    check(p, row.k, "mixed_cell row " + std::to_string(i));
  }
}

template <class S>
Results conv(ReluConvBn p, const vector<Numbers>& arguments, bool need_x, bool need_weights) {
  using T = Accumulate<S>;
  p.dtype = dtype<S>();
  const vector<S> x = stored<S>(arguments[0]), grad_out = stored<S>(arguments[1]);
  vector<vector<T>> weights = {stored<T>(arguments[2]), stored<T>(arguments[3])}, grad_weights;
  vector<const void*> weight_data;
  vector<void*> grad_weight_data;
  for (const vector<T>& w : weights) grad_weights.push_back(not_a_number<T>(w.size()));
  for (int i = 0; i < p.stride; ++i) {
    weight_data.push_back(weights[i].data()), grad_weight_data.push_back(grad_weights[i].data());
  }
  const size_t norms = p.plain ? 0 : p.out_channels;
  vector<T> mean = p.training ? not_a_number<T>(norms) : stored<T>(arguments[4]);
  vector<T> variance = p.training ? mean : stored<T>(arguments[5]);
  vector<S> out = not_a_number<S>(grad_out.size()), grad_x = not_a_number<S>(x.size());
  const pcdarts::ReluConvBnForward forward = {x.data(), weight_data.data(), mean.data(),
                                              variance.data(), out.data()};
  const pcdarts::ReluConvBnBackward backward = {forward, grad_out.data(),
                                                need_x ? grad_x.data() : nullptr,
                                                need_weights ? grad_weight_data.data() : nullptr};
  if constexpr (on_device<S>) {
    DeviceMemory first(pcdarts::cuda_relu_conv_bn_forward_scratch(p));
    pcdarts::cuda_relu_conv_bn_forward(p, forward, first.data, nullptr);
    DeviceMemory second(pcdarts::cuda_relu_conv_bn_backward_scratch(p, need_weights));
    pcdarts::cuda_relu_conv_bn_backward(p, backward, second.data, nullptr);
  } else {
    pcdarts::relu_conv_bn_kernels().forward(p, forward, kAlone);
    pcdarts::relu_conv_bn_kernels().backward(p, backward, kAlone);
  }
  Results results = {{"out", loaded(out)}};
  if (need_x) results["grad_x"] = loaded(grad_x);
  for (int i = 0; need_weights && i < p.stride; ++i) {
    results["grad_weights" + std::to_string(i)] = loaded(grad_weights[i]);
  }
  return results;
}

void convolutions() {
  int turn = 0;
  for (int64_t width : {1, 3, 4, 8, 17}) {
    for (int stride : {1, 2}) {
      ReluConvBn p = {};
      p.batch = 3, p.height = 2, p.width = width, p.stride = stride, p.eps = 1e-3;
      p.in_channels = turn % 3 == 0 ? 70 : 5, p.out_channels = turn % 4 == 0 ? 37 : 6;
      p.even_outputs = stride == 1 ? p.out_channels : p.out_channels - p.out_channels / 2;
      p.plain = turn % 5 == 4, p.linear = p.plain || turn % 5 == 3, p.training = turn % 5 != 2;
      const int64_t size = p.batch * p.height * p.width, odd = p.out_channels - p.even_outputs;
      vector<Numbers> a = {numbers(size * p.in_channels * stride * stride, 1),
                           numbers(size * p.out_channels, 2),
                           numbers(p.even_outputs * p.in_channels, 3),
                           numbers(odd * p.in_channels, 4),
                           numbers(p.out_channels, 5),
                           numbers(p.out_channels, 6)};
      for (double& value : a[5]) value += 1.5;
      for (Numbers& n : a) n = loaded(stored<float>(n));
      const string where = "relu_conv_bn row " + std::to_string(turn);
      const Results wanted = conv<double>(p, a, true, true), got = conv<float>(p, a, true, true);
      for (const auto& [name, values] : got) {
        expect_near(values, wanted.at(name), 1e-4, where + " " + name);
      }
      cusim::order = 2;
      expect_same_bits(conv<float>(p, a, true, false), got, where + " of x alone");
      expect_same_bits(conv<float>(p, a, false, true), got, where + " of the weights alone");
      p.processes = kThreeAlike;
      expect_same_bits(conv<float>(p, a, true, true), got, where + " of three processes");
      cusim::order = 0;
      ++turn;
    }
  }
}

void tests() { cells(), convolutions(); }

}  // namespace

int main() { return kernel_test::run(tests); }
