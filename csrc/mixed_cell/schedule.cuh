// What the host knows of a cell when it launches kernels: its states, and the convolutions of each
// state's edges as items of the passes.
#pragma once
#include <vector>

#include "mixed_cell/cpu.h"
#include "mixed_cell/edges.cuh"
#include "mixed_cell/stage.cuh"

namespace pcdarts {

// A state with the edges that leave it.
struct CellState {
  int stride, edges;
  EdgePlan plan;
  Channels x;
  int row[kMaxStates], target[kMaxStates];
  int64_t slots[kMaxStates];  // the first slot of every edge among all
  DeviceEdge edge[kMaxStates];
  const void* const* weights[kMaxStates];
};

inline Sizes sizes_of(const MixedCell& p) {
  const int64_t unit = p.batch * p.sampled * p.height * map_pitch(p.width);
  return {.dtype = p.dtype,
          .batch = p.batch,
          .channels = p.channels,
          .sampled = p.sampled,
          .height = p.height,
          .width = p.width,
          .unit = unit};
}

// z: units of all edges, in the order of the edges' rows; null: not kept.
inline CellState make_state(const MixedCell& p, const MixedCellForward& args, int number,
                            const float* rstd, float* z) {
  const Sizes n = sizes_of(p);
  CellState s = {};
  s.stride = edge_stride(p, number), s.plan = edge_plan(p, s.stride);
  const int64_t size = p.height * p.width;
  if (number < p.inputs) {
    const int64_t channel = size * s.stride * s.stride;
    s.x = channels_of(p.dtype, args.inputs[number], p.channels * channel, channel,
                      p.width * s.stride);
  } else {  // a node's value lies in the cell's output
    const void* node = element(p.dtype, args.out, (number - p.inputs) * p.channels * size);
    s.x = channels_of(p.dtype, node, p.nodes * p.channels * size, size, p.width);
  }
  for (int target = first_target(p, number); target < states_of(p); ++target) {
    const int e = s.edges++;
    s.row[e] = edge_row(p, number, target), s.target[e] = target;
    const EdgeOffsets at = edge_offsets(p, s.row[e]);
    s.slots[e] = at.slots;
    s.weights[e] = args.weights + at.weights;
    s.edge[e] = {.alpha = static_cast<const float*>(args.alpha) + s.row[e] * p.primitives,
                 .beta = static_cast<const float*>(args.beta) + s.row[e],
                 .mean = static_cast<const float*>(args.mean) + at.slots * p.sampled,
                 .rstd = rstd + at.slots * p.sampled,
                 .z = z == nullptr ? nullptr : z + at.units * n.unit};
  }
  return s;
}

// The convolutions of one branch's first stage: one, or the two halves of a stride-2 skip.
struct Convolutions {
  int count;
  Convolution of[2];
};
inline Convolutions first_stage(const MixedCell& p, const CellState& s, int edge,
                                const Branch& branch) {
  const auto weight = [&](int i) {
    return static_cast<const float*>(s.weights[edge][branch.weight + i]);
  };
  const int channels = static_cast<int>(p.sampled);
  if (branch.primitive.kind == Kind::skip) {
    const auto half = [&](int number) {
      const SkipHalf h = skip_half(p.sampled, number);
      return Convolution{.kernel = 1,
                         .phase = h.phase,
                         .outputs = h.outputs,
                         .first = h.first,
                         .pointwise = weight(number)};
    };
    return {skip_half(p.sampled, 1).outputs > 0 ? 2 : 1, {half(0), half(1)}};
  }
  const int dilation = branch.primitive.kind == Kind::dil_conv ? 2 : 1;
  return {1,
          {{.kernel = branch.primitive.kernel,
            .dilation = dilation,
            .outputs = channels,
            .depthwise = weight(0),
            .pointwise = weight(1)},
           {}}};
}
inline Convolution second_stage(const MixedCell& p, const CellState& s, int edge,
                                const Branch& branch) {
  const auto weight = [&](int i) {
    return static_cast<const float*>(s.weights[edge][branch.weight + i]);
  };
  return {.kernel = branch.primitive.kernel,
          .outputs = static_cast<int>(p.sampled),
          .depthwise = weight(2),
          .pointwise = weight(3)};
}

// Calls f(edge, branch, index of the separable branch in `first`) for every branch with units.
template <class F>
void for_convolutions(const CellState& s, const F& f) {
  for (int e = 0, separable = 0; e < s.edges; ++e) {
    for (int i = 0; i < s.plan.branches; ++i) {
      const Branch& branch = s.plan.branch[i];
      if (units_of(branch.primitive.kind, s.stride) == 0) continue;
      f(e, branch, separable);
      separable += branch.primitive.kind == Kind::sep_conv;
    }
  }
}

// Pass A or B over any number of items.
void run_stage(Stage a, const std::vector<StageItem>& items, bool together, void* stream);

// Warps of a stage, of either stride at most.
inline int64_t most_stage_warps(const MixedCell& p) {
  const Sizes n = sizes_of(p);
  const int64_t one = stage_warps(stage_tile(n, 1)), own = stage_warps(stage_tile(n, p.stride));
  return one > own ? one : own;
}

inline Stage make_stage(const MixedCell& p, const CellState& s, const int* source, int stride) {
  Stage a = {};
  a.size = sizes_of(p);
  a.tile = stage_tile(a.size, stride);
  a.state = {s.x, source, static_cast<int>(p.sampled)};
  a.slots = measured_slots(s.edges, s.plan);
  a.pools = -1;
  return a;
}

}  // namespace pcdarts
