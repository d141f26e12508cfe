// The backward schedule of a cell: states from the last to the first, so that every node's gradient
// is complete when it is read.
#include "mixed_cell/cuda.h"

#include "common/tables.cuh"
#include "mixed_cell/middle_backward.cuh"
#include "mixed_cell/pointwise_backward.cuh"
#include "mixed_cell/schedule.cuh"
#include "mixed_cell/state_backward_kernel.cuh"

namespace pcdarts {
namespace {

struct BackwardScratch {
  int *source, *destination;
  float* rstd;
  float *z, *first, *middle;  // of one state's edges: units, first stages, their gradients
  float *t, *t_second;        // depthwise outputs, later their gradients
  float *mixed, *bypass;      // partial sums of pass C'
  double* sums;
  Pack<float, 4>* norm;
  float *pointwise, *pointwise_second, *depthwise, *depthwise_second;  // partial weight gradients
  float* middle_sums;
  float* carry[2];
  char* nodes;  // gradients of the nodes inside of the cell
};

// The larger of both strides' plans, in every respect.
struct Most {
  int64_t slots, units, convolutions, separable, branches;
};
Most most_of(const MixedCell& p) {
  Most most = {};
  for (const int stride : {1, p.stride}) {
    const EdgePlan plan = edge_plan(p, stride);
    int64_t convolutions = 0;
    for (int i = 0; i < plan.branches; ++i) {
      const Kind kind = plan.branch[i].primitive.kind;
      convolutions += units_of(kind, stride) * (kind == Kind::skip ? 2 : 1);
    }
    const auto raise = [](int64_t& to, int64_t value) { to = to > value ? to : value; };
    raise(most.slots, plan.slots), raise(most.units, plan.units);
    raise(most.convolutions, convolutions), raise(most.separable, plan.separable);
    raise(most.branches, plan.branches);
  }
  return most;
}

template <class S>
BackwardScratch lay_out(const MixedCell& p, bool stored, bool need_weights, Scratch& scratch) {
  const Sizes n = sizes_of(p);
  const Most most = most_of(p);
  const int64_t edges = p.nodes, weights = need_weights ? edges : 0, c = p.sampled;
  const auto larger = [&](auto f) {
    const int64_t a = f(1), b = f(p.stride);
    return a > b ? a : b;
  };
  const int64_t warps = larger([&](int s) {
    return sum_warps(channel_tile(n.batch, n.height, n.width, s, 1, kSumThreads, 1));
  });
  const int64_t blocks = larger([&](int s) { return depthwise_blocks(state_tile(n, s)); });
  const int64_t middle_blocks = depthwise_blocks(middle_tile(n));
  const int64_t for_bypass = larger([&](int s) { return bypass_warps<S>(n, s); });
  const int64_t sums = edges * (1 + most.branches) * c;
  BackwardScratch s = {};
  s.source = take<int>(scratch, p.channels), s.destination = take<int>(scratch, p.channels);
  s.rstd = take<float>(scratch, edge_offsets(p, edge_count(p)).slots * c);
  s.z = take<float>(scratch, stored ? 0 : edges * most.units * n.unit);
  s.first = take<float>(scratch, edges * most.separable * n.unit);
  s.middle = take<float>(scratch, edges * most.separable * n.unit);
  s.t = take<float>(scratch, edges * most.convolutions * n.unit);
  s.t_second = take<float>(scratch, edges * most.separable * n.unit);
  s.mixed = take<float>(scratch, sums * warps);
  s.bypass = take<float>(scratch, edges * (n.channels - c) * for_bypass);
  s.sums = take<double>(scratch, sums + edges);
  s.norm = take<Pack<float, 4>>(scratch, edges * most.slots * c);
  const int64_t matrix = pointwise_blocks(n) * c * c;
  s.pointwise = take<float>(scratch, weights * most.convolutions * matrix);
  s.pointwise_second = take<float>(scratch, weights * most.separable * matrix);
  s.depthwise = take<float>(scratch, weights * most.convolutions * blocks * c * 25);
  s.depthwise_second = take<float>(scratch, weights * most.separable * middle_blocks * c * 25);
  s.middle_sums = take<float>(scratch, edges * most.separable * 2 * c * middle_blocks);
  const bool carries = edges * most.convolutions > kStateItems;
  for (float*& carry : s.carry) {
    carry = take<float>(scratch, carries ? n.unit * p.stride * p.stride : 0);
  }
  s.nodes = take<char>(scratch, (p.nodes - 1) * n.batch * n.channels * n.height * n.width *
                                    static_cast<int64_t>(sizeof(S)));
  return s;
}

// What the passes of one state share.
template <class S>
struct Source {
  const MixedCell& p;
  const MixedCellBackward& args;
  const CellState& state;
  const BackwardScratch& scratch;
  NodeGrad node[kMaxStates], add;  // of every edge; what is added to the result
  S* grad_x;                       // null: not needed
  int64_t grad_sample;
  bool packed;
  void* stream;
  std::vector<MergedWeight> weights;  // partial gradients that wait to be merged

  Sizes size() const { return sizes_of(p); }
  bool need_weights() const { return args.grad_weights != nullptr; }
  Pack<float, 4>* norm(int e, int slot) const {
    return scratch.norm + (int64_t{e} * state.plan.slots + slot) * p.sampled;
  }
  void merge_later(int e, int weight, const float* partial, int64_t size, int64_t count) {
    const int number = edge_offsets(p, state.row[e]).weights + weight;
    float* const to = static_cast<float*>(args.grad_weights[number]);
    weights.push_back({partial, to, size, static_cast<int>(count)});
  }
};

// Passes A and B again: the outputs that forward has not kept, and the depthwise outputs.
template <class S>
void recompute(Source<S>& s, bool needs_state) {
  const MixedCell& p = s.p;
  const CellState& state = s.state;
  const Sizes n = s.size();
  const bool stored = s.args.forward.z != nullptr;
  Stage a = make_stage(p, state, state.stride), b = make_stage(p, state, 1);
  a.source = s.scratch.source;
  std::vector<StageItem> first, second;
  int64_t number = 0;
  for_convolutions(state, [&](int e, const Branch& branch, int separable) {
    const bool two = branch.primitive.kind == Kind::sep_conv;
    float* const unit = stored ? nullptr : state.edge[e].z + branch.unit * n.unit;
    float* const middle = s.scratch.first + separable * n.unit;
    const Convolutions c = first_stage(p, state, e, branch);
    for (int i = 0; i < c.count; ++i, ++number) {
      float* const z = two ? (stored && !needs_state ? nullptr : middle) : unit;
      float* const t = s.need_weights() ? s.scratch.t + number * n.unit : nullptr;
      if (z != nullptr || t != nullptr) {
        first.push_back({c.of[i], -1, z, t, nullptr, nullptr, nullptr});
      }
    }
    float* const t = s.need_weights() ? s.scratch.t_second + separable * n.unit : nullptr;
    if (!two || (unit == nullptr && t == nullptr)) return;
    const int64_t norm = branch.slot * p.sampled;
    second.push_back({second_stage(p, state, e, branch), -1, unit, t, middle,
                      state.edge[e].mean + norm, state.edge[e].rstd + norm});
  });
  if (!first.empty()) run_stage(p.dtype, a, first, true, s.stream);
  if (!second.empty()) run_stage(DType::float32, b, second, false, s.stream);
}

// Pass C'.
template <class S>
void sums(Source<S>& s) {
  const CellState& state = s.state;
  const Sizes n = s.size();
  Sums a = {};
  a.size = n;
  a.tile = channel_tile(n.batch, n.height, n.width, state.stride, 1, kSumThreads, 1);
  a.plan = state.plan, a.stride = state.stride, a.edges = state.edges;
  a.state = state.x;
  FinishSums f = {};
  const BypassPlane plane = bypass_plane(n.height, n.width, state.stride, kWide<S>);
  a.wide = is_wide<S>(plane, state.x.data);
  for (int e = 0; e < state.edges; ++e) {
    a.edge[e] = f.edge[e] = state.edge[e];
    a.node[e] = s.node[e], f.row[e] = state.row[e];
    a.wide &= is_wide<S>(plane, s.node[e].data);
  }
  a.source = s.scratch.source, a.destination = s.scratch.destination;
  a.packed = s.packed;
  a.mixed = s.scratch.mixed, a.warps = sum_warps(a.tile);
  a.bypass = s.scratch.bypass, a.bypass_warps = bypass_warps<S>(n, state.stride);
  a.need_beta = s.args.grad_beta != nullptr && n.channels > n.sampled;
  launch_sums<S>(a, s.stream);
  const int64_t rows = int64_t{state.edges} * (1 + state.plan.branches) * n.sampled;
  double* const bypass = s.scratch.sums + rows;
  launch_merge_rows(
      {a.mixed, rows, a.warps, s.scratch.sums},
      {a.bypass, a.need_beta ? state.edges : 0, (n.channels - n.sampled) * a.bypass_warps, bypass},
      s.stream);
  f.size = n, f.plan = state.plan, f.stride = state.stride, f.edges = state.edges;
  f.primitives = s.p.primitives, f.training = s.p.training;
  f.mixed = s.scratch.sums, f.bypass = a.need_beta ? bypass : nullptr, f.norm = s.scratch.norm;
  f.grad_alpha = static_cast<float*>(s.args.grad_alpha);
  f.grad_beta = static_cast<float*>(s.args.grad_beta);
  launch_finish_sums(f, s.stream);
}

template <class S>
void run_pointwise(Source<S>& s, const std::vector<PointwiseItem>& items) {
  Pointwise a = {};
  a.size = s.size(), a.destination = s.scratch.destination, a.packed = s.packed;
  a.need_weights = s.need_weights(), a.span = pointwise_span(a.size);
  for (size_t first = 0; first < items.size();) {
    a.items = 0;
    for (; first < items.size() && a.items < kPointwiseItems; ++first) {
      a.item[a.items++] = items[first];
    }
    launch_pointwise_backward<S>(a, s.stream);
  }
}

// Pass B': the second stage of the separable convolutions.
template <class S>
void second_backward(Source<S>& s) {
  const MixedCell& p = s.p;
  const Sizes n = s.size();
  Middle a = {};
  a.size = n, a.tile = middle_tile(n), a.span = depthwise_span(a.tile);
  a.need_weights = s.need_weights(), a.training = p.training;
  const int64_t blocks = pointwise_blocks(n), tiles = depthwise_blocks(a.tile);
  std::vector<PointwiseItem> pointwise;
  std::vector<MiddleItem> depthwise;
  for_convolutions(s.state, [&](int e, const Branch& branch, int separable) {
    if (branch.primitive.kind != Kind::sep_conv) return;
    const DeviceEdge& edge = s.state.edge[e];
    const Convolution c = second_stage(p, s.state, e, branch);
    float* const t = s.scratch.t_second + separable * n.unit;
    const int64_t matrix = p.sampled * p.sampled, taps = p.sampled * c.kernel * c.kernel;
    float* const dp = s.scratch.pointwise_second + separable * blocks * matrix;
    float* const dd = s.scratch.depthwise_second + separable * tiles * p.sampled * 25;
    pointwise.push_back(
        {c, s.node[e], nullptr, edge.z + branch.unit * n.unit, s.norm(e, branch.slot + 1), t, dp});
    const int64_t norm = branch.slot * p.sampled;
    depthwise.push_back({{c.depthwise, t, dd, static_cast<signed char>(c.kernel), 1, 0},
                         s.scratch.first + separable * n.unit,
                         edge.mean + norm,
                         edge.rstd + norm,
                         s.scratch.middle + separable * n.unit,
                         s.scratch.middle_sums + separable * 2 * p.sampled * tiles,
                         s.norm(e, branch.slot)});
    if (!s.need_weights()) return;
    s.merge_later(e, branch.weight + 2, dd, taps, tiles);
    s.merge_later(e, branch.weight + 3, dp, matrix, blocks);
  });
  run_pointwise(s, pointwise);
  for (size_t first = 0; first < depthwise.size();) {
    a.items = 0;
    for (; first < depthwise.size() && a.items < kMiddleItems; ++first) {
      a.item[a.items++] = depthwise[first];
    }
    launch_middle_backward(a, s.stream);
  }
}

// Pass A': the first stage of all edges, and everything else that reaches the state.
template <class S>
void first_backward(Source<S>& s) {
  const MixedCell& p = s.p;
  const CellState& state = s.state;
  const Sizes n = s.size();
  StateGradient a = {};
  a.size = n, a.tile = state_tile(n, state.stride), a.span = depthwise_span(a.tile);
  a.plan = state.plan, a.stride = state.stride, a.edges = state.edges, a.state = state.x;
  const BypassPlane plane = bypass_plane(n.height, n.width, state.stride, kWide<S>);
  a.wide = is_wide<S>(plane, state.x.data) && is_wide<S>(plane, s.grad_x);
  a.grad_packed = n.width % kQuad == 0 && is_aligned<S>(s.grad_x, kQuad);
  if (s.add.data != nullptr) {
    a.wide &= is_wide<S>(plane, s.add.data);
    a.grad_packed &= is_aligned<S>(s.add.data, kQuad);
  }
  for (int e = 0; e < state.edges; ++e) {
    a.node[e] = s.node[e], a.alpha[e] = state.edge[e].alpha, a.beta[e] = state.edge[e].beta;
    a.wide &= is_wide<S>(plane, s.node[e].data);
  }
  a.norm = s.scratch.norm;
  a.source = s.scratch.source, a.destination = s.scratch.destination;
  a.add = s.add, a.grad_x = s.grad_x, a.grad_sample = s.grad_sample;
  a.grad_channel = state.x.channel;
  a.packed = s.packed, a.need_weights = s.need_weights();

  const int64_t blocks = pointwise_blocks(n), tiles = depthwise_blocks(a.tile);
  const int64_t matrix = p.sampled * p.sampled;
  std::vector<PointwiseItem> pointwise;
  std::vector<DepthwiseItem> depthwise;
  int64_t number = 0;
  for_convolutions(state, [&](int e, const Branch& branch, int separable) {
    const bool two = branch.primitive.kind == Kind::sep_conv;
    const Convolutions convolutions = first_stage(p, state, e, branch);
    for (int i = 0; i < convolutions.count; ++i, ++number) {
      const Convolution& c = convolutions.of[i];
      float* const t = s.scratch.t + number * n.unit;
      float* const dp = s.scratch.pointwise + number * blocks * matrix;
      float* const dd = s.scratch.depthwise + number * tiles * p.sampled * 25;
      const float* z =
          two ? s.scratch.first + separable * n.unit : state.edge[e].z + branch.unit * n.unit;
      const float* middle = two ? s.scratch.middle + separable * n.unit : nullptr;
      pointwise.push_back({c, s.node[e], middle, z, s.norm(e, branch.slot), t, dp});
      depthwise.push_back({c.depthwise, t, dd, static_cast<signed char>(c.kernel),
                           static_cast<signed char>(c.dilation),
                           static_cast<signed char>(c.phase)});
      if (!s.need_weights()) continue;
      const bool skip = branch.primitive.kind == Kind::skip;
      const int weight = branch.weight + (skip ? i : 1);
      s.merge_later(e, weight, dp, c.outputs * p.sampled, blocks);
      if (!skip) {
        s.merge_later(e, branch.weight, dd, p.sampled * c.kernel * c.kernel, tiles);
      }
    }
  });
  run_pointwise(s, pointwise);
  size_t first = 0;
  int launches = 0;
  do {
    a.items = 0;
    for (; first < depthwise.size() && a.items < kStateItems; ++first) {
      a.item[a.items++] = depthwise[first];
    }
    a.carried_in = launches == 0 || s.grad_x == nullptr ? nullptr : s.scratch.carry[launches % 2];
    ++launches;
    const bool last = first == depthwise.size() || s.grad_x == nullptr;
    a.carried_out = last ? nullptr : s.scratch.carry[launches % 2];
    launch_state_backward<S>(a, s.stream);
  } while (first < depthwise.size());
}

template <class S>
void merge_all(Source<S>& s) {
  MergeWeights m = {};
  for (size_t first = 0; first < s.weights.size();) {
    int64_t largest = 1;
    m.items = 0;
    for (; first < s.weights.size() && m.items < kMergedWeights; ++first) {
      m.item[m.items++] = s.weights[first];
      largest = largest > s.weights[first].size ? largest : s.weights[first].size;
    }
    launch_merge_weights(m, largest, s.stream);
  }
}

template <class S>
void backward_of(const MixedCell& p, const MixedCellBackward& args, const BackwardScratch& scratch,
                 void* stream) {
  const Sizes n = sizes_of(p);
  const int64_t node = n.channels * n.height * n.width;
  launch_tables(p.source, p.destination, p.channels, scratch.source, scratch.destination, stream);
  const int64_t slots = edge_offsets(p, edge_count(p)).slots;
  launch_fill_rstd(
      {static_cast<const float*>(args.forward.variance), scratch.rstd, slots * p.sampled, p.eps},
      stream);
  const S* const grad_out = static_cast<const S*>(args.grad_out);
  NodeGrad complete[kMaxStates];
  for (int t = p.inputs; t < states_of(p); ++t) {
    complete[t] = {grad_out + (t - p.inputs) * node, p.nodes * node};
  }
  const bool stored = args.forward.z != nullptr;
  for (int j = states_of(p) - 2; j >= 0; --j) {
    float* const z = static_cast<float*>(args.forward.z);
    CellState state = make_state<S>(p, args.forward, j, scratch.rstd, z);
    for (int e = 0; !stored && e < state.edges; ++e) {
      state.edge[e].z = scratch.z + int64_t{e} * state.plan.units * n.unit;
    }
    Source<S> s = {p, args, state, scratch, {}, {nullptr, 0}, nullptr, 0, false, stream, {}};
    s.packed = n.width % kQuad == 0;
    for (int e = 0; e < state.edges; ++e) {
      s.node[e] = complete[state.target[e]];
      s.packed &= is_aligned<S>(s.node[e].data, kQuad);
    }
    if (j >= p.inputs) {
      s.add = complete[j];
      s.grad_x = reinterpret_cast<S*>(scratch.nodes) + (j - p.inputs) * n.batch * node;
      s.grad_sample = node;
      complete[j] = {s.grad_x, node};
    } else {
      s.grad_x = static_cast<S*>(args.grad_inputs[j]);
      s.grad_sample = state.x.sample;
    }
    const bool needs_state = s.grad_x != nullptr || s.need_weights();
    recompute(s, needs_state);
    sums(s);
    if (!needs_state) continue;
    second_backward(s);
    first_backward(s);
    merge_all(s);
  }
}

}  // namespace

size_t cuda_backward_scratch(const MixedCell& p, bool stored, bool need_weights) {
  Scratch scratch = {nullptr, 0};
  with_storage_type(p.dtype, [&]<class S>() { lay_out<S>(p, stored, need_weights, scratch); });
  return scratch.used;
}

void cuda_backward(const MixedCell& p, const MixedCellBackward& args, void* scratch, void* stream) {
  with_storage_type(p.dtype, [&]<class S>() {
    Scratch pieces = {static_cast<char*>(scratch), 0};
    const bool stored = args.forward.z != nullptr, need_weights = args.grad_weights != nullptr;
    const BackwardScratch s = lay_out<S>(p, stored, need_weights, pieces);
    backward_of<S>(p, args, s, stream);
  });
}

}  // namespace pcdarts
