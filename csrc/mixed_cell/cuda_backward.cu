// The backward schedule of a cell: states from the last to the first, so that every node's gradient
// is complete when it is read.
#include "mixed_cell/cuda.h"

#include "common/synchronize.cuh"
#include "common/tables.cuh"
#include "mixed_cell/source_backward.cuh"
#include "mixed_cell/sums.cuh"

namespace pcdarts {
namespace {

// Convolutions of an edge's first stages, at most: a stride-2 skip has two.
int64_t most_convolutions(const MixedCell& p) {
  int64_t count = 0;
  for (int i = 0; i < p.primitives; ++i) {
    const Kind kind = p.primitive[i].kind;
    count += units_of(kind, p.stride) * (kind == Kind::skip ? 2 : 1);
  }
  return count;
}

BackwardScratch lay_out(const MixedCell& p, bool need_weights, Pieces& pieces) {
  const Sizes n = sizes_of(p);
  const EdgePlan most = larger_plan(p);
  const int64_t edges = p.nodes, c = p.sampled, convolutions = most_convolutions(p);
  const auto larger = [&](auto f) {
    const int64_t a = f(1), b = f(p.stride);
    return a > b ? a : b;
  };
  const BackwardBlocks second = backward_blocks(n, 1);
  const int64_t pointwise = larger([&](int s) { return backward_blocks(n, s).pointwise; });
  const int64_t blocks = larger([&](int s) { return backward_blocks(n, s).state; });
  const int64_t for_bypass = larger([&](int s) { return bypass_warps(n, s); });
  const int64_t sums = edges * (1 + most.branches) * c;
  BackwardScratch s = {};
  s.source = take<int>(pieces, p.channels), s.destination = take<int>(pieces, p.channels);
  s.rstd = take<float>(pieces, all_edges(p).slots * c);
  s.first = take<float>(pieces, edges * most.separable * n.unit);
  s.middle = take<float>(pieces, edges * most.separable * n.unit);
  s.dt = take<float>(pieces, edges * convolutions * n.unit);
  s.dt_second = take<float>(pieces, edges * most.separable * n.unit);
  s.partial = take<float>(pieces, sums * most_stage_warps(p));
  s.bypass = take<float>(pieces, edges * (n.channels - c) * for_bypass);
  s.sums = take<double>(pieces, sums);
  s.norm = take<Pack<float, 4>>(pieces, edges * most.slots * c);
  s.exchange = take<Pack<float, 2>>(pieces, exchange_size(p.processes, edges * most.branches * c));
  if (need_weights) {
    s.of_edge = {convolutions * pointwise * c * c, most.separable * second.pointwise * c * c,
                 convolutions * blocks * c * kMostTaps,
                 most.separable * second.middle * c * kMostTaps};
  }
  const int64_t all = edge_count(p);
  s.pointwise = take<float>(pieces, all * s.of_edge.pointwise);
  s.pointwise_second = take<float>(pieces, all * s.of_edge.pointwise_second);
  s.depthwise = take<float>(pieces, all * s.of_edge.depthwise);
  s.depthwise_second = take<float>(pieces, all * s.of_edge.depthwise_second);
  s.middle_sums = take<float>(pieces, edges * most.separable * 2 * c * second.middle);
  const bool carries = edges * convolutions > kStateItems;
  for (float*& carry : s.carry) {
    carry = take<float>(pieces, carries ? n.unit * p.stride * p.stride : 0);
  }
  s.nodes = take<char>(
      pieces, (p.nodes - 1) * n.batch * n.channels * n.height * n.width * size_of(p.dtype));
  return s;
}

// With the partial weight gradients of the edges behind the first `edges` ones.
BackwardScratch after_edges(BackwardScratch s, int64_t edges) {
  s.pointwise += edges * s.of_edge.pointwise;
  s.pointwise_second += edges * s.of_edge.pointwise_second;
  s.depthwise += edges * s.of_edge.depthwise;
  s.depthwise_second += edges * s.of_edge.depthwise_second;
  return s;
}

// Pass C' of the sampled channels: passes A and B again, but of their outputs only the first stages
// of separable convolutions are written. The others enter their sums as they are computed, or as
// forward has kept them.
void stage_sums(Source& s, bool needs_state) {
  const MixedCell& p = s.p;
  const CellState& state = s.state;
  const Sizes n = s.size();
  Stage a = make_stage(p, state, s.scratch.source, state.stride);
  a.sums = s.scratch.partial, a.warps = most_stage_warps(p);
  a.plan = state.plan, a.destination = s.scratch.destination, a.packed = s.packed;
  for (int e = 0; e < state.edges; ++e) a.node[e] = s.node[e], a.mean[e] = state.edge[e].mean;
  Stage b = a;
  b.tile = stage_tile(n, 1);
  a.edges = state.edges;
  std::vector<StageItem> first, second;
  for_convolutions(state, [&](int e, const Branch& branch, int separable) {
    const DeviceEdge& edge = state.edge[e];
    const int64_t number = &branch - state.plan.branch;
    const int row = e * (1 + state.plan.branches) + 1 + static_cast<int>(number);
    const float* const mean = edge.mean + last_slot(branch) * p.sampled;
    const float* const known = s.known(e, branch);
    const Convolutions c = first_stage(p, state, e, branch);
    if (branch.primitive.kind != Kind::sep_conv) {
      for (int i = 0; i < c.count; ++i) {
        first.push_back(
            {.convolution = c.of[i], .row = row, .edge = e, .mean = mean, .known = known});
      }
      return;
    }
    float* const middle = s.scratch.first + separable * n.unit;
    if (needs_state || known == nullptr) {
      first.push_back({.convolution = c.of[0], .z = middle});
    }
    const int64_t norm = branch.slot * p.sampled;
    second.push_back({.convolution = second_stage(p, state, e, branch),
                      .middle = {middle, edge.mean + norm, edge.rstd + norm},
                      .row = row,
                      .edge = e,
                      .mean = mean,
                      .known = known});
  });
  run_stage(a, first, true, s.stream);
  if (!second.empty()) run_stage(b, second, false, s.stream);
}

// Pass C' of the bypass, and what all of the sums give.
void sums(Source& s) {
  const CellState& state = s.state;
  const Sizes n = s.size();
  FinishSums f = {};
  for (int e = 0; e < state.edges; ++e) f.edge[e] = state.edge[e], f.row[e] = state.row[e];
  f.size = n, f.plan = state.plan, f.stride = state.stride, f.edges = state.edges;
  f.primitives = s.p.primitives, f.training = s.p.training;
  f.partial = s.scratch.partial, f.warps = most_stage_warps(s.p);
  f.first_warps = stage_warps(stage_tile(n, state.stride));
  f.second_warps = stage_warps(stage_tile(n, 1));
  f.sums = s.scratch.sums, f.norm = s.scratch.norm;
  f.grad_alpha = static_cast<float*>(s.args.grad_alpha);
  f.grad_beta = static_cast<float*>(s.args.grad_beta);
  if (s.args.grad_beta != nullptr && n.channels > n.sampled) {
    BypassSums a = {};
    a.size = n, a.stride = state.stride, a.edges = state.edges, a.state = state.x;
    const BypassPlane plane = bypass_plane(n.height, n.width, state.stride, wide_of(n.dtype));
    a.wide = is_wide(n.dtype, plane, state.x.data);
    for (int e = 0; e < state.edges; ++e) {
      a.node[e] = s.node[e];
      a.wide &= is_wide(n.dtype, plane, s.node[e].data);
    }
    a.source = s.scratch.source, a.destination = s.scratch.destination;
    a.sums = s.scratch.bypass, a.warps = bypass_warps(n, state.stride);
    launch_bypass_sums(a, s.stream);
    f.bypass = a.sums, f.bypass_warps = a.warps;
  }
  launch_finish_sums(f, s.stream);
}

// The formulas of all last batch-norms, or of those in the middle of separable convolutions, from
// the sums of all processes.
void synchronize_norms(const Source& s, bool last) {
  const CellState& state = s.state;
  Synchronized a = in_norms(s.scratch.norm, s.p.sampled);
  for (int e = 0; e < state.edges; ++e) {
    for (int i = 0; i < state.plan.branches; ++i) {
      const Branch& branch = state.plan.branch[i];
      const Kind kind = branch.primitive.kind;
      if (slots_of(kind, state.stride) == 0 || (!last && kind != Kind::sep_conv)) continue;
      a.slot[a.slots++] = e * state.plan.slots + (last ? last_slot(branch) : branch.slot);
    }
  }
  synchronize(s.p.processes, a, s.scratch.exchange, s.stream);
}

void backward_of(const MixedCell& p, const MixedCellBackward& args, const BackwardScratch& scratch,
                 void* stream) {
  const Sizes n = sizes_of(p);
  const int64_t node = n.channels * n.height * n.width;
  const EdgeOffsets all = all_edges(p);
  launch_prepare(p.source, p.destination, p.channels, scratch.source, scratch.destination,
                 {static_cast<const float*>(args.forward.variance), scratch.rstd,
                  all.slots * p.sampled, p.eps},
                 stream);
  std::vector<MergedWeight> weights;  // partial gradients that wait to be merged
  int64_t edges = 0;                  // whose partial gradients are computed
  NodeGrad complete[kMaxStates];
  for (int t = p.inputs; t < states_of(p); ++t) {
    complete[t] = {element(p.dtype, args.grad_out, (t - p.inputs) * node), p.nodes * node};
  }
  for (int j = states_of(p) - 2; j >= 0; --j) {
    float* const z = static_cast<float*>(args.forward.z);
    const CellState state = make_state(p, args.forward, j, scratch.rstd, z);
    const BackwardScratch own = after_edges(scratch, edges);
    edges += state.edges;
    Source s = {.p = p,
                .args = args,
                .state = state,
                .scratch = own,
                .weights = weights,
                .stream = stream,
                .packed = n.width % kQuad == 0};
    for (int e = 0; e < state.edges; ++e) {
      s.node[e] = complete[state.target[e]];
      s.packed &= is_aligned(n.dtype, s.node[e].data, kQuad);
    }
    if (j >= p.inputs) {
      s.add = complete[j];
      s.grad_x =
          element(p.dtype, static_cast<void*>(scratch.nodes), (j - p.inputs) * n.batch * node);
      s.grad_sample = node;
      complete[j] = {s.grad_x, node};
    } else {
      s.grad_x = args.grad_inputs[j];
      s.grad_sample = state.x.sample;
    }
    const bool needs_state = s.grad_x != nullptr || s.need_weights();
    stage_sums(s, needs_state);
    sums(s);
    if (!needs_state) continue;
    synchronize_norms(s, true);
    second_backward(s);
    synchronize_norms(s, false);
    first_backward(s);
  }
  launch_merge_weights(weights, stream);
}

}  // namespace

size_t cuda_backward_scratch(const MixedCell& p, bool need_weights) {
  Pieces pieces = {nullptr, 0};
  lay_out(p, need_weights, pieces);
  return pieces.used;
}

void cuda_backward(const MixedCell& p, const MixedCellBackward& args, void* scratch, void* stream) {
  Pieces pieces = {static_cast<char*>(scratch), 0};
  const BackwardScratch s = lay_out(p, args.grad_weights != nullptr, pieces);
  backward_of(p, args, s, stream);
}

}  // namespace pcdarts
