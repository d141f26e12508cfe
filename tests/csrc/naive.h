// The operations of a cell in double, written as the paper says them: the oracle of the kernels.
#pragma once
#include <cmath>
#include <cstdint>
#include <vector>

namespace naive {

using Numbers = std::vector<double>;

struct Maps {
  int64_t batch, channels, height, width;
  Numbers data;
};

Maps zeros(int64_t batch, int64_t channels, int64_t height, int64_t width) {
  return {batch, channels, height, width, Numbers(batch * channels * height * width)};
}

double& at(Maps& m, int64_t b, int64_t c, int64_t y, int64_t x) {
  return m.data[((b * m.channels + c) * m.height + y) * m.width + x];
}
double at(const Maps& m, int64_t b, int64_t c, int64_t y, int64_t x) {
  return at(const_cast<Maps&>(m), b, c, y, x);
}

// f(b, c, y, x) -> value, for every element.
template <class F>
Maps fill(int64_t batch, int64_t channels, int64_t height, int64_t width, F f) {
  Maps m = zeros(batch, channels, height, width);
  double* value = m.data.data();
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t y = 0; y < height; ++y) {
        for (int64_t x = 0; x < width; ++x) *value++ = f(b, c, y, x);
      }
    }
  }
  return m;
}

Maps relu(Maps m) {
  for (double& value : m.data) value = value > 0 ? value : 0;
  return m;
}

// f(value, tap) for every element that lies under the K x K window of output (y, x).
template <class F>
void window(const Maps& m, int64_t b, int64_t c, int64_t y, int64_t x, int kernel, int stride,
            int dilation, F f) {
  for (int i = 0; i < kernel * kernel; ++i) {
    const int64_t row = y * stride + (i / kernel - kernel / 2) * dilation;
    const int64_t column = x * stride + (i % kernel - kernel / 2) * dilation;
    if (row < 0 || row >= m.height || column < 0 || column >= m.width) continue;
    f(at(m, b, c, row, column), i);
  }
}

Maps depthwise(const Maps& m, const Numbers& w, int kernel, int stride, int dilation) {
  return fill(m.batch, m.channels, m.height / stride, m.width / stride,
              [&](int64_t b, int64_t c, int64_t y, int64_t x) {
                double sum = 0;
                window(m, b, c, y, x, kernel, stride, dilation,
                       [&](double value, int tap) { sum += value * w[c * kernel * kernel + tap]; });
                return sum;
              });
}

// Reads the pixels (stride * y + shift, stride * x + shift).
Maps pointwise(const Maps& m, const Numbers& w, int64_t outputs, int stride = 1, int shift = 0) {
  return fill(m.batch, outputs, m.height / stride, m.width / stride,
              [&](int64_t b, int64_t o, int64_t y, int64_t x) {
                double sum = 0;
                for (int64_t c = 0; c < m.channels; ++c) {
                  sum +=
                      w[o * m.channels + c] * at(m, b, c, y * stride + shift, x * stride + shift);
                }
                return sum;
              });
}

// The outputs of two convolutions, the second one pixel further.
Maps factorized(const Maps& m, const Numbers& w0, const Numbers& w1, int64_t outputs) {
  const int64_t first = outputs - outputs / 2;
  const Maps even = pointwise(m, w0, first, 2), odd = pointwise(m, w1, outputs / 2, 2, 1);
  return fill(m.batch, outputs, m.height / 2, m.width / 2,
              [&](int64_t b, int64_t o, int64_t y, int64_t x) {
                return o < first ? at(even, b, o, y, x) : at(odd, b, o - first, y, x);
              });
}

Maps max_pool(const Maps& m, int stride) {
  return fill(m.batch, m.channels, m.height / stride, m.width / stride,
              [&](int64_t b, int64_t c, int64_t y, int64_t x) {
                double best = -INFINITY;
                window(m, b, c, y, x, 3, stride, 1,
                       [&](double value, int) { best = value > best ? value : best; });
                return best;
              });
}

Maps average_pool(const Maps& m, int stride) {
  return fill(m.batch, m.channels, m.height / stride, m.width / stride,
              [&](int64_t b, int64_t c, int64_t y, int64_t x) {
                double sum = 0, count = 0;
                window(m, b, c, y, x, 3, stride, 1,
                       [&](double value, int) { sum += value, ++count; });
                return sum / count;
              });
}

// Normalises with mean and variance [channels], which are the batch's own and written in training.
Maps batch_norm(Maps m, double* mean, double* variance, bool training, double eps) {
  const int64_t size = m.height * m.width, count = m.batch * size;
  for (int64_t c = 0; c < m.channels; ++c) {
    const auto each = [&](auto f) {
      for (int64_t i = 0; i < count; ++i) {
        f(m.data.at((i / size * m.channels + c) * size + i % size));
      }
    };
    if (training) {
      mean[c] = variance[c] = 0;
      each([&](double& value) { mean[c] += value / count; });
      each([&](double& value) { variance[c] += (value - mean[c]) * (value - mean[c]) / count; });
    }
    each([&](double& value) { value = (value - mean[c]) / std::sqrt(variance[c] + eps); });
  }
  return m;
}

}  // namespace naive
