// The forward schedule of a cell: every state once as a source, every node once as a sum.
#include "mixed_cell/cuda.h"

#include "common/synchronize.cuh"
#include "common/tables.cuh"
#include "mixed_cell/node.cuh"
#include "mixed_cell/schedule.cuh"

namespace pcdarts {
namespace {

struct ForwardScratch {
  int *source, *destination;
  float *rstd, *z, *first;
  WarpMoments* partial;
  Pack<float, 2>* exchange;
};

ForwardScratch lay_out(const MixedCell& p, bool store, Pieces& pieces) {
  const Sizes n = sizes_of(p);
  const EdgePlan most = larger_plan(p);
  const EdgeOffsets all = all_edges(p);
  ForwardScratch s = {};
  s.source = take<int>(pieces, p.channels), s.destination = take<int>(pieces, p.channels);
  s.rstd = take<float>(pieces, int64_t{all.slots} * p.sampled);
  s.z = take<float>(pieces, store ? 0 : all.units * n.unit);
  s.first = take<float>(pieces, int64_t{p.nodes} * most.separable * n.unit);
  s.partial = take<WarpMoments>(
      pieces, p.training ? most_stage_warps(p) * measured_slots(p.nodes, most) * p.sampled : 0);
  s.exchange =
      take<Pack<float, 2>>(pieces, exchange_size(p.processes, p.nodes * most.slots * p.sampled));
  return s;
}

static_assert(kMostMerged >= kMaxPrimitives && kMostEdges >= kMaxStates);

// Merges the moments of the slots that pass A (or B) has measured.
void merge_slots(const MixedCell& p, const MixedCellForward& args, const CellState& s,
                 const ForwardScratch& scratch, int64_t warps, bool second, void* stream) {
  MergeMoments m = {};
  m.partial = scratch.partial, m.warps = warps;
  m.slots = measured_slots(s.edges, s.plan), m.channels = p.sampled, m.eps = p.eps;
  m.mean = static_cast<float*>(args.mean), m.variance = static_cast<float*>(args.variance);
  m.rstd = scratch.rstd;
  m.edges = s.edges, m.per_edge = s.plan.slots;
  for (int e = 0; e < s.edges; ++e) m.to[e] = s.slots[e];
  const int pools = s.edges * s.plan.slots;
  for (int i = 0; i < s.plan.branches; ++i) {
    const Branch& branch = s.plan.branch[i];
    const Kind kind = branch.primitive.kind;
    if (slots_of(kind, s.stride) == 0 || (second && kind != Kind::sep_conv)) continue;
    const bool pool = is_pool(kind);
    m.slot[m.count] = branch.slot + second;
    m.shared[m.count++] = pool ? pools + (kind == Kind::avg_pool) : -1;
  }
  launch_merge(m, stream);
  synchronize(p.processes, merged_by(m), scratch.exchange, stream);
}

// Passes A and B of one state.
void source_forward(const MixedCell& p, const MixedCellForward& args, const CellState& s,
                    const ForwardScratch& scratch, void* stream) {
  const Sizes n = sizes_of(p);
  Stage a = make_stage(p, s, scratch.source, s.stride), b = make_stage(p, s, scratch.source, 1);
  if (p.training) a.partial = b.partial = scratch.partial;
  if (p.training && has_pools(s.plan)) a.pools = s.edges * s.plan.slots;
  std::vector<StageItem> first, second;
  for_convolutions(s, [&](int e, const Branch& branch, int separable) {
    const int slot = e * s.plan.slots + branch.slot;
    float* const z = s.edge[e].z + branch.unit * n.unit;
    const bool two = branch.primitive.kind == Kind::sep_conv;
    float* const middle = scratch.first + separable * n.unit;
    const Convolutions c = first_stage(p, s, e, branch);
    for (int i = 0; i < c.count; ++i) {
      first.push_back({.convolution = c.of[i], .z = two ? middle : z, .slot = slot});
    }
    if (!two) return;
    const int64_t norm = branch.slot * p.sampled;
    second.push_back({.convolution = second_stage(p, s, e, branch),
                      .middle = {middle, s.edge[e].mean + norm, s.edge[e].rstd + norm},
                      .z = z,
                      .slot = slot + 1});
  });
  run_stage(a, first, true, stream);
  if (p.training) merge_slots(p, args, s, scratch, stage_warps(a.tile), false, stream);
  if (second.empty()) return;
  run_stage(b, second, false, stream);
  if (p.training) merge_slots(p, args, s, scratch, stage_warps(b.tile), true, stream);
}

void node_forward(const MixedCell& p, const MixedCellForward& args, const CellState* states,
                  int target, const ForwardScratch& scratch, void* stream) {
  Node a = {};
  a.size = sizes_of(p);
  a.plan[0] = edge_plan(p, 1), a.plan[1] = edge_plan(p, 2);
  const Tile t = node_tile(a.size, p.stride);
  a.tile[0] = with_stride(t, 1), a.tile[1] = with_stride(t, 2);
  a.source = scratch.source, a.destination = scratch.destination;
  const int64_t size = p.height * p.width;
  void* const out = element(p.dtype, args.out, (target - p.inputs) * p.channels * size);
  a.out = out, a.out_sample = p.nodes * p.channels * size;
  a.out_packed = p.width % kQuad == 0 && is_aligned(p.dtype, out, kQuad);
  const BypassPlane plane = bypass_plane(p.height, p.width, p.stride, wide_of(p.dtype));
  a.wide = is_wide(p.dtype, plane, out);
  for (int j = 0; j < target; ++j) {
    const CellState& s = states[j];
    a.state[j] = s.x, a.stride[j] = s.stride;
    a.edge[j] = s.edge[target - s.target[0]];
    a.wide &= is_wide(p.dtype, plane, s.x.data);
  }
  a.states = target;
  launch_node(a, stream);
}

void forward_of(const MixedCell& p, const MixedCellForward& args, const ForwardScratch& scratch,
                void* stream) {
  const int64_t norms = p.training ? 0 : all_edges(p).slots * p.sampled;
  launch_prepare(p.source, p.destination, p.channels, scratch.source, scratch.destination,
                 {static_cast<const float*>(args.variance), scratch.rstd, norms, p.eps}, stream);
  float* const z = args.z == nullptr ? scratch.z : static_cast<float*>(args.z);
  std::vector<CellState> states;
  for (int j = 0; j < states_of(p); ++j) {
    if (j >= p.inputs) node_forward(p, args, states.data(), j, scratch, stream);
    if (j + 1 == states_of(p)) break;
    states.push_back(make_state(p, args, j, scratch.rstd, z));
    source_forward(p, args, states.back(), scratch, stream);
  }
}

}  // namespace

int64_t cuda_z_size(const MixedCell& p) { return all_edges(p).units * sizes_of(p).unit; }

size_t cuda_forward_scratch(const MixedCell& p, bool store) {
  Pieces pieces = {nullptr, 0};
  lay_out(p, store, pieces);
  return pieces.used;
}

void cuda_forward(const MixedCell& p, const MixedCellForward& args, void* scratch, void* stream) {
  Pieces pieces = {static_cast<char*>(scratch), 0};
  const ForwardScratch s = lay_out(p, args.z != nullptr, pieces);
  forward_of(p, args, s, stream);
}

}  // namespace pcdarts
