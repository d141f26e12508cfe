#include "partial_mix/cpu.h"

#include "common/isa.h"

namespace pcdarts::PCDARTS_ISA {
namespace {

constexpr int kBlock = 32;     // elements held in registers at a time
constexpr int kDotLanes = 16;  // partial sums of a dot product: fixed, whatever the instruction set

// out[j] = sum_i weights[i] * outputs[i][sample, q][first + j], j < count <= kBlock
template <class T>
inline __attribute__((always_inline)) void mix_block(const PartialMix& p, const Planes* outputs,
                                                     const double* weights, PlaneIndex at,
                                                     int64_t first, int count, T* out) {
  Accumulate<T> sum[kBlock] = {};
  for (int64_t i = 0; i < p.outputs; ++i) {
    const Accumulate<T> weight = static_cast<Accumulate<T>>(weights[i]);
    const T* output = plane<T>(outputs[i], at.sample, at.q) + first;
    for (int j = 0; j < count; ++j) sum[j] += weight * load(output + j);
  }
  for (int j = 0; j < count; ++j) store(out + j, sum[j]);
}

template <class T>
void mix_plane(const PartialMix& p, const Planes* outputs, const double* weights, PlaneIndex at,
               T* out) {
  const int64_t size = p.height * p.width;
  int64_t first = 0;
  for (; first + kBlock <= size; first += kBlock) {
    mix_block(p, outputs, weights, at, first, kBlock, out + first);
  }
  if (first < size) {
    mix_block(p, outputs, weights, at, first, static_cast<int>(size - first), out + first);
  }
}

template <class T>
auto winner(const T* __restrict top, const T* __restrict bottom, int64_t column) {
  const int64_t left = 2 * column, right = left + 1;
  return window_winner(load(top + left), load(top + right), load(bottom + left),
                       load(bottom + right));
}

template <class T>
void pool_plane(const PartialMix& p, const T* x, T* out) {
  for (int64_t y = 0; y < p.height; ++y) {
    const T *top = x + 4 * y * p.width, *bottom = top + 2 * p.width;
    T* __restrict to = out + y * p.width;
    for (int64_t c = 0; c < p.width; ++c) store(to + c, winner(top, bottom, c).value);
  }
}

template <class T>
void unpool_plane(const PartialMix& p, const T* x, const T* grad, T* grad_x) {
  for (int64_t y = 0; y < p.height; ++y) {
    const T *top = x + 4 * y * p.width, *bottom = top + 2 * p.width;
    const T* from = grad + y * p.width;
    T* __restrict to_top = grad_x + 4 * y * p.width, * __restrict to_bottom = to_top + 2 * p.width;
    for (int64_t c = 0; c < p.width; ++c) {
      const auto index = winner(top, bottom, c).index;
      const Accumulate<T> g = load(from + c), zero = 0;
      store(to_top + 2 * c, index == 0 ? g : zero);
      store(to_top + 2 * c + 1, index == 1 ? g : zero);
      store(to_bottom + 2 * c, index == 2 ? g : zero);
      store(to_bottom + 2 * c + 1, index == 3 ? g : zero);
    }
  }
}

template <class T>
void scale_plane(int64_t size, Accumulate<T> weight, const T* grad, T* out) {
  for (int64_t j = 0; j < size; ++j) store(out + j, weight * load(grad + j));
}

template <class T>
double dot_plane(int64_t size, const T* a, const T* b) {
  Accumulate<T> lane[kDotLanes] = {};
  int64_t first = 0;
  for (; first + kDotLanes <= size; first += kDotLanes) {
    for (int j = 0; j < kDotLanes; ++j) lane[j] += load(a + first + j) * load(b + first + j);
  }
  double sum = 0;
  for (; first < size; ++first) sum += load(a + first) * load(b + first);
  for (int j = 0; j < kDotLanes; ++j) sum += lane[j];
  return sum;
}

void forward(const PartialMix& p, const Planes* outputs, const double* weights, const Planes& x,
             void* out, int64_t begin, int64_t end) {
  with_element_type(p.dtype, [&]<class T>() {
    const int64_t size = p.height * p.width;
    for (int64_t unit = begin; unit < end; ++unit) {
      const PlaneIndex at = plane_index(unit, p.channels);
      T* to = static_cast<T*>(out) + (at.sample * p.channels + p.destination[at.q]) * size;
      if (at.q < p.mixed) {
        mix_plane(p, outputs, weights, at, to);
        continue;
      }
      const T* from = plane<T>(x, at.sample, p.source[at.q]);
      if (p.stride == 1) {
        __builtin_memcpy(to, from, size * sizeof(T));
      } else {
        pool_plane(p, from, to);
      }
    }
  });
}

void backward(const PartialMix& p, const Planes& grad, const Planes* outputs, const double* weights,
              const Planes& x, void* const* grad_outputs, double* grad_weights, void* grad_x,
              int64_t begin, int64_t end) {
  with_element_type(p.dtype, [&]<class T>() {
    const int64_t size = p.height * p.width, x_size = size * p.stride * p.stride;
    for (int64_t unit = begin; unit < end; ++unit) {
      const PlaneIndex at = plane_index(unit, p.channels);
      const T* from = plane<T>(grad, at.sample, p.destination[at.q]);
      T* to = nullptr;
      if (grad_x != nullptr) {
        to = static_cast<T*>(grad_x) + (at.sample * p.channels + p.source[at.q]) * x_size;
      }
      if (at.q < p.mixed) {
        const int64_t mixed_plane = at.sample * p.mixed + at.q;
        for (int64_t i = 0; i < p.outputs; ++i) {
          if (grad_outputs != nullptr) {
            scale_plane(size, static_cast<Accumulate<T>>(weights[i]), from,
                        static_cast<T*>(grad_outputs[i]) + mixed_plane * size);
          }
          if (grad_weights != nullptr) {
            grad_weights[mixed_plane * p.outputs + i] =
                dot_plane(size, from, plane<T>(outputs[i], at.sample, at.q));
          }
        }
        // the sampled channels reach x through the candidates, not through this operator
        if (to != nullptr) __builtin_memset(to, 0, x_size * sizeof(T));
      } else if (to != nullptr && p.stride == 1) {
        __builtin_memcpy(to, from, size * sizeof(T));
      } else if (to != nullptr) {
        unpool_plane(p, plane<T>(x, at.sample, p.source[at.q]), from, to);
      }
    }
  });
}

}  // namespace
}  // namespace pcdarts::PCDARTS_ISA

PCDARTS_KERNELS(PartialMixKernels, partial_mix_kernels, forward, backward)
