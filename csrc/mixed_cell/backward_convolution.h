// Backward through one convolution of an edge: to its weights, lane by lane, and to its input; and
// how the weights' gradients of a state's edges are laid out and summed up.
#pragma once
#include "mixed_cell/backward.h"

namespace pcdarts::PCDARTS_ISA {
namespace {

// Backward of z = pointwise(t), t = depthwise(planes), given dz and, for the weights, t: the
// weights' gradients lane by lane in dw (null: not needed), the input's written or added to dr.
template <class T>
PCDARTS_INLINE void convolve_gradient(const MixedCell& p, const auto& g, const Taps& taps,
                                      int phases, const BackwardScratch<T>& scratch,
                                      const T* planes, const T* const* weights, Vec<T>* dw, T* dr,
                                      bool accumulate) {
  const int channels = static_cast<int>(p.sampled);
  if (dw != nullptr) {
    pointwise_weight_gradient(g, scratch.dz, channels, scratch.t, channels,
                              dw + depthwise_lanes<T>(channels, taps.weights));
  }
  pointwise_to_planes(g, scratch.dz, channels, Matrix<T>{weights[1], 1, channels}, channels,
                      scratch.dt);
  depthwise_gradient(g, taps, channels, phases, planes, weights[0], scratch.dt, dw, dr, accumulate);
}

// The same of a stride-2 skip.
template <class T>
PCDARTS_INLINE void reduce_skip_gradient(const MixedCell& p, const auto& g,
                                         const BackwardScratch<T>& scratch, const T* const* weights,
                                         Vec<T>* dw, T* dr) {
  const int channels = static_cast<int>(p.sampled);
  for (int half = 0; half < 2; ++half) {
    const SkipHalf h = skip_half(p.sampled, half);
    if (h.outputs == 0) continue;
    const T* dz = scratch.dz + int64_t{h.first} * g.map;
    if (dw != nullptr) {
      phase_to_maps(p, g, scratch.planes, h.phase, scratch.t);
      pointwise_weight_gradient(g, dz, h.outputs, scratch.t, channels,
                                dw + int64_t{h.first} * channels);
    }
    pointwise_add_to_maps(g, dz, h.outputs, Matrix<T>{weights[half], 1, channels}, channels,
                          dr + int64_t{h.phase} * g.map, int64_t{4} * g.map);
  }
}

PCDARTS_INLINE bool is_depthwise(const Branch& branch, int weight) {
  return branch.primitive.kind != Kind::skip && weight % 2 == 0;
}

template <class T>
PCDARTS_INLINE WeightLayout weight_layout(const MixedCell& p, int stride, int edges) {
  const EdgePlan plan = edge_plan(p, stride);
  WeightLayout layout = {};
  for (int second = 1; second >= 0; --second) {
    for (int e = 0; e < edges; ++e) {
      for (int i = 0; i < plan.branches; ++i) {
        const Branch& branch = plan.branch[i];
        const int tensors = weights_of(branch.primitive.kind, stride);
        for (int w = 0; w < tensors; ++w) {
          if ((w >= 2) != second) continue;
          layout.at[e][branch.weight + w] = layout.size;
          const int taps = branch.primitive.kernel * branch.primitive.kernel;
          layout.size += is_depthwise(branch, w) ? depthwise_lanes<T>(p.sampled, taps)
                                                 : weight_size(branch.primitive, w, p.sampled);
        }
      }
    }
    if (second) layout.second_size = layout.size;
  }
  return layout;
}

// Sums the chunks, in order, into the weights' own tensors; depthwise taps leave their blocks.
template <class S, class G>
PCDARTS_INLINE void finish_weights(const MixedCell& p, const State<S, G>& state,
                                   const SourceGradient<S>& grad, void* const* grad_weights) {
  using T = Accumulate<S>;
  merge_chunks(p.batch, grad.dw, grad.layout.size);
  for (int e = 0; e < state.edges; ++e) {
    const int offset = edge_offsets(p, state.edge[e].row).weights;
    for (int i = 0; i < state.plan.branches; ++i) {
      const Branch& branch = state.plan.branch[i];
      const int tensors = weights_of(branch.primitive.kind, state.stride);
      for (int w = 0; w < tensors; ++w) {
        const int64_t from = grad.layout.at[e][branch.weight + w];
        T* to = static_cast<T*>(grad_weights[offset + branch.weight + w]);
        if (!is_depthwise(branch, w)) {
          const int64_t size = weight_size(branch.primitive, w, p.sampled);
          for (int64_t j = 0; j < size; ++j) to[j] = grad.dw[from + j];
          continue;
        }
        const Taps& taps = w == 0 ? state.first[i] : state.second[i];
        for (int64_t c = 0; c < p.sampled; ++c) {
          for (int block = 0, tap = 0; block < taps.blocks; ++block) {
            const TapBlock& b = taps.block[block];
            for (int ky = 0; ky < b.rows; ++ky) {
              for (int kx = 0; kx < b.columns; ++kx) {
                to[c * taps.weights + weight_index(b, ky, kx)] =
                    grad.dw[from + depthwise_lane<T>(c, taps.weights, tap++)];
              }
            }
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace pcdarts::PCDARTS_ISA
