// Backward through the convolutions of a state's edges (passes B' and A').
#include "mixed_cell/middle_backward.cuh"
#include "mixed_cell/pointwise_backward.cuh"
#include "mixed_cell/source_backward.cuh"
#include "mixed_cell/state_backward_kernel.cuh"

namespace pcdarts {
namespace {

void run_pointwise(Source& s, const std::vector<PointwiseItem>& items, int stride, int together) {
  Pointwise a = {};
  a.size = s.size(), a.tile = pointwise_tile(a.size, stride),
  a.span = static_cast<int>(pointwise_span(a.tile));
  a.state = {s.state.x, s.scratch.source, static_cast<int>(s.p.sampled)};
  a.destination = s.scratch.destination, a.packed = s.packed;
  a.need_weights = s.need_weights();
  for (size_t first = 0; first < items.size();) {
    first = take_items(items, first, a);
    launch_pointwise_backward(a, together, s.stream);
  }
}

}  // namespace

BackwardBlocks backward_blocks(const Sizes& n, int stride) {
  return {pointwise_blocks(pointwise_tile(n, stride)), depthwise_blocks(state_tile(n, stride)),
          depthwise_blocks(middle_tile(n))};
}

void second_backward(Source& s) {
  const MixedCell& p = s.p;
  const Sizes n = s.size();
  Middle a = {};
  a.size = n, a.tile = middle_tile(n), a.span = depthwise_span(a.tile);
  a.need_weights = s.need_weights(), a.training = p.training;
  const int64_t blocks = backward_blocks(n, 1).pointwise, tiles = depthwise_blocks(a.tile);
  std::vector<PointwiseItem> pointwise;
  std::vector<MiddleItem> depthwise;
  for_convolutions(s.state, [&](int e, const Branch& branch, int separable) {
    if (branch.primitive.kind != Kind::sep_conv) return;
    const DeviceEdge& edge = s.state.edge[e];
    const Convolution c = second_stage(p, s.state, e, branch);
    float* const dt = s.scratch.dt_second + separable * n.unit;
    const int64_t matrix = p.sampled * p.sampled, taps = p.sampled * c.kernel * c.kernel;
    float* const dp = s.scratch.pointwise_second + separable * blocks * matrix;
    float* const dd = s.scratch.depthwise_second + separable * tiles * p.sampled * kMostTaps;
    const int64_t norm = branch.slot * p.sampled;
    const FirstStage middle = {s.scratch.first + separable * n.unit, edge.mean + norm,
                               edge.rstd + norm};
    pointwise.push_back({.convolution = c,
                         .middle = middle,
                         .node = s.node[e],
                         .known = s.known(e, branch),
                         .norm = s.norm(e, branch.slot + 1),
                         .dt = dt,
                         .partial = dp});
    depthwise.push_back({.depthwise = depthwise_item(c, dt, dd),
                         .first = middle,
                         .grad = s.scratch.middle + separable * n.unit,
                         .sums = s.scratch.middle_sums + separable * 2 * p.sampled * tiles,
                         .norm = s.norm(e, branch.slot)});
    if (!s.need_weights()) return;
    s.merge_later(e, branch.weight + 2, dd, taps, tiles);
    s.merge_later(e, branch.weight + 3, dp, matrix, blocks);
  });
  run_pointwise(s, pointwise, 1, 1);
  for (size_t first = 0; first < depthwise.size();) {
    first = take_items(depthwise, first, a);
    launch_middle_backward(a, s.stream);
  }
}

void first_backward(Source& s) {
  const MixedCell& p = s.p;
  const CellState& state = s.state;
  const Sizes n = s.size();
  StateGradient a = {};
  a.size = n, a.tile = state_tile(n, state.stride), a.span = depthwise_span(a.tile);
  a.plan = state.plan, a.stride = state.stride, a.edges = state.edges, a.state = state.x;
  const BypassPlane plane = bypass_plane(n.height, n.width, state.stride, wide_of(n.dtype));
  a.wide = is_wide(n.dtype, plane, state.x.data) && is_wide(n.dtype, plane, s.grad_x);
  a.grad_packed = n.width % kQuad == 0 && is_aligned(n.dtype, s.grad_x, kQuad);
  if (s.add.data != nullptr) {
    a.wide &= is_wide(n.dtype, plane, s.add.data);
    a.grad_packed &= is_aligned(n.dtype, s.add.data, kQuad);
  }
  for (int e = 0; e < state.edges; ++e) {
    a.node[e] = s.node[e], a.alpha[e] = state.edge[e].alpha, a.beta[e] = state.edge[e].beta;
    a.wide &= is_wide(n.dtype, plane, s.node[e].data);
  }
  a.norm = s.scratch.norm;
  a.source = s.scratch.source, a.destination = s.scratch.destination;
  a.add = s.add, a.grad_x = s.grad_x, a.grad_sample = s.grad_sample;
  a.grad_channel = state.x.channel;
  a.packed = s.packed, a.need_weights = s.need_weights();

  const int64_t blocks = backward_blocks(n, state.stride).pointwise;
  const int64_t tiles = depthwise_blocks(a.tile);
  const int64_t matrix = p.sampled * p.sampled;
  std::vector<PointwiseItem> pointwise;
  std::vector<DepthwiseItem> depthwise;
  int64_t number = 0;
  for_convolutions(state, [&](int e, const Branch& branch, int separable) {
    const bool two = branch.primitive.kind == Kind::sep_conv;
    const Convolutions convolutions = first_stage(p, state, e, branch);
    for (int i = 0; i < convolutions.count; ++i, ++number) {
      const Convolution& c = convolutions.of[i];
      float* const dt = s.scratch.dt + number * n.unit;
      float* const dp = s.scratch.pointwise + number * blocks * matrix;
      float* const dd = s.scratch.depthwise + number * tiles * p.sampled * kMostTaps;
      // without weight gradients the first stage's z spares its depthwise output
      const float* const first = s.need_weights() ? nullptr : s.scratch.first + separable * n.unit;
      const float* const known = two ? first : s.known(e, branch);
      const float* const upstream = two ? s.scratch.middle + separable * n.unit : nullptr;
      pointwise.push_back({.convolution = c,
                           .node = s.node[e],
                           .upstream = upstream,
                           .known = known,
                           .norm = s.norm(e, branch.slot),
                           .dt = dt,
                           .partial = dp});
      depthwise.push_back(depthwise_item(c, dt, dd));
      if (!s.need_weights()) continue;
      const bool skip = branch.primitive.kind == Kind::skip;
      const int weight = branch.weight + (skip ? i : 1);
      s.merge_later(e, weight, dp, c.outputs * p.sampled, blocks);
      if (!skip) {
        s.merge_later(e, branch.weight, dd, p.sampled * c.kernel * c.kernel, tiles);
      }
    }
  });
  if (!pointwise.empty()) {
    run_pointwise(s, pointwise, state.stride, static_cast<int>(number) / state.edges);
  }
  size_t first = 0;
  int launches = 0;
  do {
    first = take_items(depthwise, first, a);
    a.carried_in = launches == 0 || s.grad_x == nullptr ? nullptr : s.scratch.carry[launches % 2];
    ++launches;
    const bool last = first == depthwise.size() || s.grad_x == nullptr;
    a.carried_out = last ? nullptr : s.scratch.carry[launches % 2];
    launch_state_backward(a, s.stream);
  } while (first < depthwise.size());
}

}  // namespace pcdarts
