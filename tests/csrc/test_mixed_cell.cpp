// mixed_cell without torch: every instruction set against plain loops, also under the sanitizers.
#include "kernel_test.h"
#include "mixed_cell/cpu.h"
#include "naive_cell.h"

namespace {

using namespace kernel_test;

struct Mode {
  bool store, inputs, weights, alpha, beta;
};
constexpr Mode kAll = {false, true, true, true, true};

template <class S>
Arguments rounded(Arguments a) {
  using T = Accumulate<S>;
  for (Numbers& x : a.inputs) x = loaded(stored<S>(x));
  for (Numbers& w : a.weights) w = loaded(stored<T>(w));
  for (Numbers* n : {&a.alpha, &a.beta, &a.mean, &a.variance}) *n = loaded(stored<T>(*n));
  a.grad_out = loaded(stored<S>(a.grad_out));
  return a;
}

// Runs forward and backward; every buffer has exactly the size it must have and starts as NaN.
template <class S>
Results kernel(MixedCell p, const Arguments& a, Mode mode, const Parallel& parallel) {
  using T = Accumulate<S>;
  p.dtype = dtype<S>();
  const auto& kernels = pcdarts::mixed_cell_kernels();
  vector<vector<S>> inputs, grad_inputs;
  vector<vector<T>> weights, grad_weights;
  vector<const void*> input_data, weight_data;
  vector<void*> grad_input_data, grad_weight_data;
  for (const Numbers& x : a.inputs) {
    inputs.push_back(stored<S>(x)), grad_inputs.push_back(not_a_number<S>(x.size()));
    input_data.push_back(inputs.back().data());
    grad_input_data.push_back(mode.inputs ? grad_inputs.back().data() : nullptr);
  }
  for (const Numbers& w : a.weights) {
    weights.push_back(stored<T>(w)), grad_weights.push_back(not_a_number<T>(w.size()));
    weight_data.push_back(weights.back().data());
    grad_weight_data.push_back(grad_weights.back().data());
  }
  const vector<T> alpha = stored<T>(a.alpha), beta = stored<T>(a.beta);
  vector<T> mean = p.training ? not_a_number<T>(a.mean.size()) : stored<T>(a.mean);
  vector<T> variance = p.training ? mean : stored<T>(a.variance);
  vector<T> z = not_a_number<T>(mode.store ? kernels.z_size(p) : 0);
  vector<T> grad_alpha = not_a_number<T>(alpha.size()), grad_beta = not_a_number<T>(beta.size());
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
  kernels.forward(p, forward, parallel);
  kernels.backward(
      p,
      {forward, grad_out.data(), grad_input_data.data(),
       mode.weights ? grad_weight_data.data() : nullptr, mode.alpha ? grad_alpha.data() : nullptr,
       mode.beta ? grad_beta.data() : nullptr},
      parallel);
  Results results = {{"out", loaded(out)}, {"mean", loaded(mean)}, {"variance", loaded(variance)}};
  for (size_t i = 0; mode.inputs && i < grad_inputs.size(); ++i) {
    results["grad_inputs" + std::to_string(i)] = loaded(grad_inputs[i]);
  }
  // all as one: batch-norm makes the gradients of some weights vanish but for rounding
  Numbers& all = results["grad_weights"];
  for (const vector<T>& grad : grad_weights) {
    const Numbers values = loaded(grad);
    all.insert(all.end(), values.begin(), values.end());
  }
  if (!mode.weights) results.erase("grad_weights");
  if (mode.alpha) results["grad_alpha"] = loaded(grad_alpha);
  if (mode.beta) results["grad_beta"] = loaded(grad_beta);
  return results;
}

void check_gradients(const MixedCell& p, const Arguments& a, const Results& got,
                     const string& where) {
  Arguments changed = a;
  std::map<string, vector<Numbers*>> leaves = {{"grad_alpha", {&changed.alpha}},
                                               {"grad_beta", {&changed.beta}}};
  for (size_t i = 0; i < a.inputs.size(); ++i) {
    leaves["grad_inputs" + std::to_string(i)] = {&changed.inputs[i]};
  }
  for (Numbers& weight : changed.weights) leaves["grad_weights"].push_back(&weight);
  for (const auto& [name, tensors] : leaves) {
    const Numbers& grad = got.at(name);
    const Numbers direction = numbers(grad.size(), 7);
    const auto move = [&, tensors = tensors](double step) {
      size_t i = 0;
      for (Numbers* tensor : tensors) {
        for (double& value : *tensor) value += step * direction[i++];
      }
    };
    const auto projected = [&](double step) {
      move(step);
      const double result = dot(plain(p, changed).at("out"), a.grad_out);
      move(-step);
      return result;
    };
    expect_slope(projected, dot(grad, direction), std::sqrt(dot(grad, grad)), where + " " + name);
  }
}

// The results in S against the ones in double, which are right; and the same bits for every split,
// memory policy and choice of gradients.
template <class S>
void check_dtype(const MixedCell& p, const Arguments& exact, double limit, const string& where) {
  const Arguments a = rounded<S>(exact);
  const Results wanted = kernel<double>(p, a, kAll, kSplits[0]);
  const Results got = kernel<S>(p, a, kAll, kSplits[0]);
  for (const auto& [name, values] : got) {
    expect_near(values, wanted.at(name), limit, where + " " + name);
  }
  static size_t turn = 0;
  constexpr Mode modes[] = {{true, true, true, true, true},     {false, true, false, true, true},
                            {true, true, false, true, true},    {false, false, true, false, false},
                            {false, false, false, true, false}, {false, true, true, true, true}};
  for (int i = 0; i < 3; ++i, ++turn) {  // all of them in turn
    const Mode& mode = modes[turn % 6];
    const string flags = {mode.store ? 's' : 'r', mode.inputs ? 'x' : '-', mode.weights ? 'w' : '-',
                          mode.alpha ? 'a' : '-', mode.beta ? 'b' : '-'};
    expect_same_bits(kernel<S>(p, a, mode, kSplits[turn / 6 % 3]), got, where + " " + flags);
  }
}

constexpr int64_t kSmall = 9 * 17;  // pixels

void check(MixedCell p, int k, const string& where) {
  // shuffled channels, and other ones sampled than the first
  vector<int64_t> source(p.sampled * k), destination(source.size());
  p.channels = p.sampled * k;
  for (int64_t q = 0; q < p.channels; ++q) {
    source[q] = p.channels - 1 - q, destination[q] = q % p.sampled * k + q / p.sampled;
  }
  p.source = source.data(), p.destination = destination.data(), p.eps = 1e-3;
  const Arguments a = arguments_of(p);
  if (p.height * p.width <= kSmall) {  // of larger ones double is not the question
    const Results got = kernel<double>(p, a, kAll, kSplits[0]);
    for (const auto& [name, values] : plain(p, a)) {
      expect_near(got.at(name), values, 1e-9, where + " " + name);
    }
    if (p.height * p.width < 65) check_gradients(p, a, got, where);
  }
  check_dtype<double>(p, a, 0, where + " float64");
  // one sampled channel: hardly any gradient is left of its weights, and that is rounding; nodes
  // are stored in bfloat16, which turns the kinks of what they feed
  check_dtype<float>(p, a, p.sampled == 1 ? 1e-3 : 1e-4, where + " float32");
  check_dtype<pcdarts::bfloat16>(p, a, p.nodes > 1 ? 0.2 : 3e-2, where + " bfloat16");
}

constexpr Primitive kNone = {Kind::none, 0}, kMax = {Kind::max_pool, 3},
                    kAverage = {Kind::avg_pool, 3}, kSkip = {Kind::skip, 0},
                    kSep3 = {Kind::sep_conv, 3}, kSep5 = {Kind::sep_conv, 5},
                    kDil3 = {Kind::dil_conv, 3}, kDil5 = {Kind::dil_conv, 5};

void tests() {
  const vector<vector<Primitive>> subsets = {
      {kNone, kMax, kAverage, kSkip, kSep3, kSep5, kDil3, kDil5},
      {kDil5, kSkip, kMax},
      {kSep5, kNone, kAverage, kDil3, kSep3},
      {kSkip},
      {kMax, kAverage},
      {kSep3},
      {kNone},
  };
  const int64_t sizes[] = {1, 2, 4, 7, 8, 9, 14, 17}, sampled[] = {1, 2, 3, 4, 5, 6, 8},
                batches[] = {3, 1, 9, 2};
  // code of their own, and heights that take several tiles
  vector<std::pair<int64_t, int64_t>> maps = {{16, 16}, {32, 32}, {28, 28}, {3, 5}, {5, 6}, {6, 3}};
  for (int64_t height : sizes) {
    for (int64_t width : sizes) {
      if (height * width <= kSmall) maps.push_back({height, width});
    }
  }
  int turn = 0;
  for (const auto& [height, width] : maps) {
    for (int stride : {1, 2}) {
      const bool cell = turn % 3 == 1, training = turn % 5 != 4;
      const vector<Primitive>& primitives = subsets[turn % 2 == 0 ? 0 : turn / 2 % 7];
      MixedCell p = {};
      p.batch = batches[turn / 2 % 4], p.sampled = sampled[turn % 7];
      if (height == 16) p.sampled = 16;  // so many that backward keeps z
      p.height = height, p.width = width, p.stride = stride;
      p.inputs = cell ? 2 : 1, p.nodes = cell ? 3 : 1, p.training = training;
      for (const Primitive& primitive : primitives) p.primitive[p.primitives++] = primitive;
      vector<int64_t> of_turn = {p.batch};
      if (height < 8 && width < 8) of_turn.push_back(32 + turn / 2 % 2 * 8);  // float in stacks
      for (const int64_t batch : of_turn) {
        p.batch = batch;
        check(p, 1 + turn % 4,
              std::to_string(turn) + ": B " + std::to_string(batch) + ", C/k " +
                  std::to_string(p.sampled) + ", " + std::to_string(height) + "x" +
                  std::to_string(width) + ", stride " + std::to_string(stride) +
                  (cell ? ", cell" : ", edge") + (training ? "" : ", eval"));
      }
      ++turn;
    }
  }
}

}  // namespace

int main() { return kernel_test::run(tests); }
