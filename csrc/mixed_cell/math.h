// mixed_cell: a graph of partial-channel mixed operations, its numbering and its formulas (paper
// sections 3.2 and 3.3). No torch, no CUDA headers.
//
// States 0..inputs-1 come in, node n is state inputs + n; every state has an edge to every later
// node. Row of an edge: all edges into earlier nodes, then by source. Node = sum over its incoming
// edges e of beta_e * y_e, and y_e mixes the sampled channels through the candidate operations:
//
//   out[b, destination[q]] = sum_e beta_e sum_i alpha_ei o_ei[b, q]       q <  C/k
//                          = sum_e beta_e pool(x_e[b, source[q]])         q >= C/k
//
// with the channel tables of partial_mix/math.h. Every o_i but the stride-1 skip ends in a
// batch-norm, o_i = (z_i - mean_i) * rstd_i, and a separable convolution has one more in its
// middle. A `slot` is one batch-norm, a `unit` one convolution output z that enters the sum, both
// numbered within an edge in the order of the primitives.
#pragma once
#include <cstdint>

#include "common/batch_norm.h"
#include "common/dtype.h"
#include "common/host_device.h"
#include "common/processes.h"

namespace pcdarts {

constexpr int kMaxPrimitives = 16;
constexpr int kMaxStates = 16;

enum class Kind : int { none, max_pool, avg_pool, skip, sep_conv, dil_conv };

struct Primitive {
  Kind kind;
  int kernel;  // 3 or 5; 0 of none and of a skip
};

struct MixedCell {
  DType dtype;  // of states and their gradients; parameters are in its accumulation type
  int64_t batch, channels, sampled;
  int64_t height, width;  // of the nodes; inputs have stride times as many rows and columns
  int stride;             // of the edges that leave an input, 1 or 2
  int inputs, nodes;
  int primitives;
  Primitive primitive[kMaxPrimitives];
  const int64_t* source;       // [channels]
  const int64_t* destination;  // [channels]
  bool training;               // batch statistics, else running statistics
  Processes processes;         // whose batches the statistics are of
  double eps;
};

PCDARTS_HD int states_of(const MixedCell& p) { return p.inputs + p.nodes; }

// The row of the edge from a state to a later node state.
PCDARTS_HD int edge_row(const MixedCell& p, int state, int target) {
  return (target * (target - 1) - p.inputs * (p.inputs - 1)) / 2 + state;
}
// The first state that edges from this one end in.
PCDARTS_HD int first_target(const MixedCell& p, int state) {
  return state + 1 > p.inputs ? state + 1 : p.inputs;
}
PCDARTS_HD int edge_count(const MixedCell& p) { return edge_row(p, 0, states_of(p)); }
PCDARTS_HD int edge_stride(const MixedCell& p, int state) {
  return state < p.inputs ? p.stride : 1;
}

// What one primitive of an edge owns: the first of its slots, units and weight tensors.
struct Branch {
  Primitive primitive;
  int column;  // of alpha
  int slot, unit, weight;
};

// One edge: the branches that compute something, and how much of everything there is.
struct EdgePlan {
  int branches, slots, units, weights, separable;
  bool max_pools, avg_pools;  // whether there are any
  Branch branch[kMaxPrimitives];
};
PCDARTS_HD bool has_pools(const EdgePlan& plan) { return plan.max_pools || plan.avg_pools; }

PCDARTS_HD bool is_pool(Kind kind) { return kind == Kind::max_pool || kind == Kind::avg_pool; }
// The stride-1 skip computes nothing and has no batch-norm.
PCDARTS_HD bool is_plain_skip(Kind kind, int stride) { return kind == Kind::skip && stride == 1; }

PCDARTS_HD int slots_of(Kind kind, int stride) {
  if (kind == Kind::none || is_plain_skip(kind, stride)) return 0;
  return kind == Kind::sep_conv ? 2 : 1;
}
PCDARTS_HD int units_of(Kind kind, int stride) {
  return kind == Kind::sep_conv || kind == Kind::dil_conv || (kind == Kind::skip && stride == 2);
}
PCDARTS_HD int weights_of(Kind kind, int stride) {
  return 2 * units_of(kind, stride) * (kind == Kind::sep_conv ? 2 : 1);
}

PCDARTS_HD EdgePlan edge_plan(const MixedCell& p, int stride) {
  EdgePlan plan = {};
  for (int i = 0; i < p.primitives; ++i) {
    const Kind kind = p.primitive[i].kind;
    if (kind == Kind::none) continue;
    plan.branch[plan.branches++] = {p.primitive[i], i, plan.slots, plan.units, plan.weights};
    plan.slots += slots_of(kind, stride);
    plan.units += units_of(kind, stride);
    plan.weights += weights_of(kind, stride);
    plan.separable += kind == Kind::sep_conv;
    plan.max_pools |= kind == Kind::max_pool;
    plan.avg_pools |= kind == Kind::avg_pool;
  }
  return plan;
}

// Of the two plans that a cell's edges have the one that has no fewer of anything: at stride 2 a
// skip has a batch-norm and a unit too.
PCDARTS_HD EdgePlan larger_plan(const MixedCell& p) {
  const EdgePlan from_input = edge_plan(p, p.stride), from_node = edge_plan(p, 1);
  return from_input.units > from_node.units ? from_input : from_node;
}

// The batch-norm behind a branch's last convolution.
PCDARTS_HD int last_slot(const Branch& branch) {
  return branch.slot + (branch.primitive.kind == Kind::sep_conv);
}

// What is measured of one state in training: every edge's slots, and once the two pools.
PCDARTS_HD int64_t measured_slots(int edges, const EdgePlan& plan) {
  return int64_t{edges} * plan.slots + 2;
}

// How many slots, units and weight tensors lie before an edge's.
struct EdgeOffsets {
  int slots, units, weights;
};
PCDARTS_HD EdgeOffsets edge_offsets(const MixedCell& p, int row) {
  const EdgePlan from_input = edge_plan(p, p.stride), from_node = edge_plan(p, 1);
  EdgeOffsets at = {};
  for (int target = p.inputs, e = 0; e < row; ++target) {
    for (int state = 0; state < target && e < row; ++state, ++e) {
      const EdgePlan& plan = state < p.inputs ? from_input : from_node;
      at.slots += plan.slots, at.units += plan.units, at.weights += plan.weights;
    }
  }
  return at;
}
// How many there are of all edges.
PCDARTS_HD EdgeOffsets all_edges(const MixedCell& p) { return edge_offsets(p, edge_count(p)); }

// The two halves of a stride-2 skip: first output, number of outputs, and the phase each reads.
struct SkipHalf {
  int first, outputs, phase;
};
PCDARTS_HD SkipHalf skip_half(int64_t sampled, int half) {
  const int channels = static_cast<int>(sampled), odd = channels / 2;
  return half == 0 ? SkipHalf{0, channels - odd, 0} : SkipHalf{channels - odd, odd, 3};
}

// Elements of weight tensor `number` of a branch: depthwise and pointwise weights in turn; the two
// halves of a stride-2 skip [C/k - C/k/2, C/k] and [C/k/2, C/k].
PCDARTS_HD int64_t weight_size(const Primitive& primitive, int number, int64_t sampled) {
  if (primitive.kind == Kind::skip) return skip_half(sampled, number).outputs * sampled;
  return number % 2 == 0 ? sampled * primitive.kernel * primitive.kernel : sampled * sampled;
}

constexpr int kMostTaps = 25;

// A depthwise convolution as blocks of taps, each reading one phase of the input (stride 2 has four
// phases, by the parity of row and column):
//
//   out[y][x] += sum w * phase[y + offset_y + dilation * ky][x + offset_x + dilation * kx]
struct TapBlock {
  int phase, rows, columns, dilation;
  int offset_y, offset_x;
  int kernel, first_y, first_x, step;  // where the block's taps lie in the K x K weights
};
struct Taps {
  int blocks, weights;
  TapBlock block[4];
};

PCDARTS_HD int weight_index(const TapBlock& b, int ky, int kx) {
  return (b.first_y + b.step * ky) * b.kernel + b.first_x + b.step * kx;
}

PCDARTS_HD Taps make_taps(int kernel, int dilation, int stride) {
  Taps taps = {};
  taps.weights = kernel * kernel;
  const int padding = dilation * (kernel / 2);
  if (stride == 1 || dilation == 2) {  // stride 2 and dilation 2 meet the even phase only
    const int reach = stride == 1 ? padding : kernel / 2;
    taps.block[taps.blocks++] = {
        0, kernel, kernel, stride == 1 ? dilation : 1, -reach, -reach, kernel, 0, 0, 1};
    return taps;
  }
  for (int phase = 0; phase < 4; ++phase) {
    const int first_y = (phase / 2 + padding) % 2, first_x = (phase % 2 + padding) % 2;
    const int rows = (kernel - first_y + 1) / 2, columns = (kernel - first_x + 1) / 2;
    // the first tap is (first - padding) input rows away: that many halves, rounded down
    const int offset_y = (first_y - padding - phase / 2) / 2;
    const int offset_x = (first_x - padding - phase % 2) / 2;
    taps.block[taps.blocks++] = {phase,    rows,   columns, 1,       offset_y,
                                 offset_x, kernel, first_y, first_x, 2};
  }
  return taps;
}

}  // namespace pcdarts
