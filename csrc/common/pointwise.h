// Pointwise (1x1) convolution of maps and its weight gradient: register blocks of 4 outputs x 2
// vectors (4 where they are wide), every output's sum in the same order whatever the block.
#pragma once
#include "common/strips.h"
#include "common/wide.h"

namespace pcdarts::PCDARTS_ISA {
namespace {

// A weight matrix seen from either side: w(out, in) = data[out * out_stride + in * in_stride].
template <class T>
struct Matrix {
  const T* data;
  int64_t out_stride, in_stride;
};

template <int outs, int vectors, class V, class T>
PCDARTS_INLINE void pointwise_block(const T* in, int64_t map, int channels, const Matrix<T>& w,
                                    int o, V (&sum)[outs][vectors]) {
  PCDARTS_UNROLL for (int k = 0; k < outs; ++k) clear(sum[k]);
  const T* weight = w.data + o * w.out_stride;
  for (int c = 0; c < channels; ++c, in += map, weight += w.in_stride) {
    V value[vectors];
    PCDARTS_UNROLL for (int v = 0; v < vectors; ++v) {
      value[v] = load_as<V>(in + v * kElements<V, T>);
    }
    PCDARTS_UNROLL for (int k = 0; k < outs; ++k) {
      const V tap = splat_as<V>(weight[k * w.out_stride]);
      PCDARTS_UNROLL for (int v = 0; v < vectors; ++v) sum[k][v] += tap * value[v];
    }
  }
}

template <int outs, class T, class F>
PCDARTS_INLINE void pointwise_vectors(const auto& g, const T* in, int channels, const Matrix<T>& w,
                                      int o, F sink) {
  MapCursor at = {0, 0, 0};
  const auto block = [&]<class V, int count>() __attribute__((always_inline)) {
    V sum[outs][count];
    pointwise_block(in + at.vector * kLanes, g.map, channels, w, o, sum);
    PCDARTS_UNROLL for (int v = 0; v < count; ++v) {
      PCDARTS_UNROLL for (int k = 0; k < outs; ++k) sink(o + k, at, sum[k][v]);
      for (int part = 0; part < kElements<V, T> / kLanes; ++part) advance(g, at);
    }
  };
  if constexpr (kParts<T> > 1) {
    while (at.vector + 4 * kParts<T> <= g.vectors) block.template operator()<Wide<T>, 4>();
  }
  while (at.vector + 2 <= g.vectors) block.template operator()<Vec<T>, 2>();
  if (at.vector < g.vectors) block.template operator()<Vec<T>, 1>();
}

// sink(output, place, values) for every register, of one vector or of several, of every output; in:
// maps [channels]. The usual numbers of channels get loops of fixed length.
template <class T, class F>
PCDARTS_INLINE void pointwise(const auto& g, const T* in, int channels, const Matrix<T>& w,
                              int outputs, F sink) {
  int o = 0;
  if (sizeof(T) == 4 && channels == 4) {
    for (; o + 4 <= outputs; o += 4) pointwise_vectors<4>(g, in, 4, w, o, sink);
  } else if (sizeof(T) == 4 && channels == 8) {
    for (; o + 4 <= outputs; o += 4) pointwise_vectors<4>(g, in, 8, w, o, sink);
  } else if (sizeof(T) == 4 && channels == 16) {
    for (; o + 4 <= outputs; o += 4) pointwise_vectors<4>(g, in, 16, w, o, sink);
  }
  for (; o + 4 <= outputs; o += 4) pointwise_vectors<4>(g, in, channels, w, o, sink);
  for (; o < outputs; ++o) pointwise_vectors<1>(g, in, channels, w, o, sink);
}

// out[output] are maps `stride` elements apart.
template <class T>
PCDARTS_NOINLINE void pointwise_to_maps(const auto& g, const T* in, int channels,
                                        const Matrix<T>& w, int outputs, T* out, int64_t stride) {
  pointwise(g, in, channels, w, outputs, [&](int o, MapCursor at, auto v) {
    store_as(out + o * stride + at.vector * kLanes, v);
  });
}

template <class T>
PCDARTS_NOINLINE void pointwise_add_to_maps(const auto& g, const T* in, int channels,
                                            const Matrix<T>& w, int outputs, T* out,
                                            int64_t stride) {
  pointwise(g, in, channels, w, outputs, [&](int o, MapCursor at, auto v) {
    T* to = out + o * stride + at.vector * kLanes;
    store_as(to, load_as<decltype(v)>(to) + v);
  });
}

template <class T>
PCDARTS_NOINLINE void pointwise_to_planes(const auto& g, const T* in, int channels,
                                          const Matrix<T>& w, int outputs, T* out) {
  pointwise(g, in, channels, w, outputs, [&](int o, MapCursor at, auto v) {
    T* const plane = out + int64_t{o} * g.plane;
    put(g, plane, at.strip, at.row, part_of<0, T>(v));
    if constexpr (sizeof(v) > sizeof(Vec<T>)) {
      advance(g, at);
      put(g, plane, at.strip, at.row, part_of<1, T>(v));
    }
  });
}

// Several stretches of maps, one behind the other: sums stay in registers over all of them.
struct Stretches {
  int count, vectors;            // how many, and of how many vectors each
  int64_t map;                   // elements between two channels of a stretch
  int64_t grad_apart, in_apart;  // elements between two stretches
};

template <class V, int outs, int ins, class T>
PCDARTS_INLINE void weight_block(const Stretches& over, const T* grad, const T* in, Vec<T>* dw,
                                 int64_t row) {
  V sum[outs][ins];
  PCDARTS_UNROLL for (int k = 0; k < outs; ++k) { clear(sum[k]); }
  for (int i = 0; i < over.count; ++i, grad += over.grad_apart, in += over.in_apart) {
    for (int at = 0; at < over.vectors * kLanes; at += kElements<V, T>) {
      V value[ins];
      PCDARTS_UNROLL for (int c = 0; c < ins; ++c) value[c] = load_as<V>(in + c * over.map + at);
      PCDARTS_UNROLL for (int k = 0; k < outs; ++k) {
        const V g = in_register(load_as<V>(grad + k * over.map + at));
        PCDARTS_UNROLL for (int c = 0; c < ins; ++c) sum[k][c] += g * value[c];
      }
    }
  }
  PCDARTS_UNROLL for (int k = 0; k < outs; ++k) {
    PCDARTS_UNROLL for (int c = 0; c < ins; ++c) dw[k * row + c] += narrow<T>(sum[k][c]);
  }
}

// Twelve sums and what they need fit into the sixteen registers of AVX2.
#ifdef __AVX2__
template <class T>
constexpr bool kThreeInputs = sizeof(T) == 4;
#else
template <class T>
constexpr bool kThreeInputs = false;
#endif

template <class V, int outs, class T>
PCDARTS_INLINE void weight_rows(const Stretches& over, const T* grad, const T* in, int channels,
                                Vec<T>* dw) {
  int c = 0;
  for (; kThreeInputs<T> && c + 3 <= channels && c + 4 != channels; c += 3) {
    weight_block<V, outs, 3>(over, grad, in + c * over.map, dw + c, channels);
  }
  for (; c + 2 <= channels; c += 2) {
    weight_block<V, outs, 2>(over, grad, in + c * over.map, dw + c, channels);
  }
  if (c < channels) weight_block<V, outs, 1>(over, grad, in + c * over.map, dw + c, channels);
}

template <class V, class T>
PCDARTS_NOINLINE void weight_gradient(const Stretches& over, const T* grad, int outputs,
                                      const T* in, int channels, Vec<T>* dw) {
  int o = 0;
  for (; o + 4 <= outputs; o += 4) {
    weight_rows<V, 4>(over, grad + o * over.map, in, channels, dw + int64_t{o} * channels);
  }
  for (; o < outputs; ++o) {
    weight_rows<V, 1>(over, grad + o * over.map, in, channels, dw + int64_t{o} * channels);
  }
}

// dw[output][channel] += grad[output] . in[channel], lane by lane; the lanes of a wide register are
// added up to eight.
template <class T>
PCDARTS_INLINE void pointwise_weight_gradient(const Stretches& over, const T* grad, int outputs,
                                              const T* in, int channels, Vec<T>* dw) {
  if (over.vectors % kParts<T> == 0) {
    weight_gradient<Wide<T>>(over, grad, outputs, in, channels, dw);
  } else {
    weight_gradient<Vec<T>>(over, grad, outputs, in, channels, dw);
  }
}

template <class T>
PCDARTS_INLINE void pointwise_weight_gradient(const auto& g, const T* grad, int outputs,
                                              const T* in, int channels, Vec<T>* dw) {
  pointwise_weight_gradient(Stretches{1, g.vectors, g.map, 0, 0}, grad, outputs, in, channels, dw);
}

}  // namespace
}  // namespace pcdarts::PCDARTS_ISA
