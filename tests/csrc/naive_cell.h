// A whole cell of mixed operations in double, edge by edge: the oracle of mixed_cell.
#pragma once
#include <algorithm>

#include "kernel_test.h"
#include "mixed_cell/math.h"
#include "naive.h"

namespace kernel_test {

using pcdarts::Kind;
using pcdarts::MixedCell;
using pcdarts::Primitive;

struct Arguments {
  vector<Numbers> inputs, weights;
  Numbers alpha, beta, mean, variance, grad_out;
};

// f(source, target) for every edge, in the order of its rows.
template <class F>
void for_edges(const MixedCell& p, F f) {
  for (int target = p.inputs; target < p.inputs + p.nodes; ++target) {
    for (int source = 0; source < target; ++source) f(source, target);
  }
}

Arguments arguments_of(const MixedCell& p) {
  Arguments a;
  unsigned seed = 1;
  for (int i = 0; i < p.inputs; ++i) {
    const int64_t size = p.height * p.width * p.stride * p.stride;
    a.inputs.push_back(numbers(p.batch * p.channels * size, ++seed));
  }
  int64_t edges = 0, norms = 0;
  for_edges(p, [&](int source, int) {
    ++edges;
    const int stride = source < p.inputs ? p.stride : 1;
    for (int i = 0; i < p.primitives; ++i) {
      const auto [kind, K] = p.primitive[i];
      const int64_t n = p.sampled;
      if (kind == Kind::skip && stride == 2) {
        a.weights.push_back(numbers((n - n / 2) * n, ++seed));
        a.weights.push_back(numbers(n / 2 * n, ++seed));
      }
      const bool separable = kind == Kind::sep_conv,
                 convolves = separable || kind == Kind::dil_conv;
      for (int stage = 0; stage < convolves + separable; ++stage) {
        a.weights.push_back(numbers(n * K * K, ++seed));
        a.weights.push_back(numbers(n * n, ++seed));
      }
      norms += kind == Kind::none || (kind == Kind::skip && stride == 1) ? 0 : 1 + separable;
    }
  });
  a.alpha = numbers(edges * p.primitives, ++seed), a.beta = numbers(edges, ++seed);
  a.mean = numbers(norms * p.sampled, ++seed), a.variance = numbers(norms * p.sampled, ++seed);
  for (double& value : a.variance) value += 1.5;
  a.grad_out = numbers(p.batch * p.nodes * p.channels * p.height * p.width, ++seed);
  return a;
}

// The candidate operation of one branch; takes its weights and batch-norms one after the other.
naive::Maps operation(const MixedCell& p, Primitive primitive, int stride, const naive::Maps& x,
                      Arguments& a, size_t& weight, size_t& norm) {
  const auto normalised = [&](const naive::Maps& z) {
    const size_t first = norm++ * p.sampled;
    return naive::batch_norm(z, &a.mean[first], &a.variance[first], p.training, p.eps);
  };
  const auto convolved = [&](const naive::Maps& in, int s, int dilation) {
    const Numbers &depthwise = a.weights.at(weight), &pointwise = a.weights.at(weight + 1);
    weight += 2;
    const naive::Maps t =
        naive::depthwise(naive::relu(in), depthwise, primitive.kernel, s, dilation);
    return normalised(naive::pointwise(t, pointwise, p.sampled));
  };
  switch (primitive.kind) {
    case Kind::none:
      return naive::zeros(p.batch, p.sampled, p.height, p.width);
    case Kind::max_pool:
      return normalised(naive::max_pool(x, stride));
    case Kind::avg_pool:
      return normalised(naive::average_pool(x, stride));
    case Kind::skip:
      if (stride == 1) return x;
      weight += 2;
      return normalised(naive::factorized(naive::relu(x), a.weights.at(weight - 2),
                                          a.weights.at(weight - 1), p.sampled));
    case Kind::sep_conv: {
      const naive::Maps middle = convolved(x, stride, 1);
      return convolved(middle, 1, 1);
    }
    case Kind::dil_conv:
      return convolved(x, stride, 2);
  }
  return x;
}

Results plain(const MixedCell& p, Arguments a) {
  vector<naive::Maps> states;
  for (const Numbers& x : a.inputs) {
    states.push_back({p.batch, p.channels, p.height * p.stride, p.width * p.stride, x});
  }
  states.resize(p.inputs + p.nodes, naive::zeros(p.batch, p.channels, p.height, p.width));
  naive::Maps out = naive::zeros(p.batch, p.nodes * p.channels, p.height, p.width);
  size_t weight = 0, norm = 0, row = 0;
  for_edges(p, [&](int source, int target) {
    const int stride = source < p.inputs ? p.stride : 1;
    const naive::Maps& x = states.at(source);
    naive::Maps& node = states.at(target);
    const auto add = [&](int64_t q, int64_t from, double scale, const naive::Maps& y) {
      for (int64_t b = 0; b < p.batch; ++b) {
        for (int64_t i = 0; i < p.height * p.width; ++i) {
          const int64_t h = i / p.width, w = i % p.width;
          at(node, b, p.destination[q], h, w) += scale * at(y, b, from, h, w);
        }
      }
    };
    const naive::Maps sampled = naive::fill(
        p.batch, p.sampled, x.height, x.width,
        [&](int64_t b, int64_t c, int64_t h, int64_t w) { return at(x, b, p.source[c], h, w); });
    for (int i = 0; i < p.primitives; ++i) {
      const naive::Maps o = operation(p, p.primitive[i], stride, sampled, a, weight, norm);
      const double scale = a.beta[row] * a.alpha[row * p.primitives + i];
      for (int64_t q = 0; q < p.sampled; ++q) add(q, q, scale, o);
    }
    const naive::Maps bypass = naive::fill(
        p.batch, p.channels, p.height, p.width, [&](int64_t b, int64_t c, int64_t h, int64_t w) {
          double best = -INFINITY;
          for (int j = 0; j < stride * stride; ++j) {
            best = std::max(best, at(x, b, c, h * stride + j / stride, w * stride + j % stride));
          }
          return best;
        });
    for (int64_t q = p.sampled; q < p.channels; ++q) add(q, p.source[q], a.beta[row], bypass);
    ++row;
  });
  for (int n = 0; n < p.nodes; ++n) {
    for (int64_t b = 0; b < p.batch; ++b) {
      const int64_t size = p.channels * p.height * p.width;
      std::copy_n(&states.at(p.inputs + n).data[b * size], size,
                  &out.data[(b * p.nodes + n) * size]);
    }
  }
  return {{"out", out.data}, {"mean", a.mean}, {"variance", a.variance}};
}

}  // namespace kernel_test
