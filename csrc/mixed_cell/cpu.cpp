// The schedule of a cell: every state once as a source, every node once as a sum.
#include "mixed_cell/backward_first.h"
#include "mixed_cell/backward_second.h"
#include "mixed_cell/backward_sums.h"
#include "mixed_cell/forward_node.h"
#include "mixed_cell/forward_source.h"
#include "mixed_cell/stacked.h"

#include "common/isa.h"

namespace pcdarts::PCDARTS_ISA {
namespace {

template <class S, class G>
State<S, G> make_state(const MixedCell& p, const G& grid, const MixedCellForward& args, int number,
                       Accumulate<S>* rstd) {
  using T = Accumulate<S>;
  State<S, G> state = {};
  state.stride = edge_stride(p, number), state.phases = state.stride * state.stride;
  state.grid = grid;
  state.plan = edge_plan(p, state.stride);
  for (int i = 0; i < state.plan.branches; ++i) {
    const Primitive& primitive = state.plan.branch[i].primitive;
    if (primitive.kernel == 0) continue;
    const int dilation = primitive.kind == Kind::dil_conv ? 2 : 1;
    state.first[i] = make_taps(primitive.kernel, dilation, state.stride);
    state.second[i] = make_taps(primitive.kernel, 1, 1);
  }
  state.channel = p.height * p.width * state.phases;
  if (number < p.inputs) {
    state.x = static_cast<const S*>(args.inputs[number]);
    state.sample = p.channels * state.channel;
  } else {  // a node's value lies in the cell's output
    state.x = static_cast<const S*>(args.out) + (number - p.inputs) * p.channels * state.channel;
    state.sample = p.nodes * p.channels * state.channel;
  }
  for (int target = first_target(p, number); target < states_of(p); ++target) {
    OutEdge<T>& edge = state.edge[state.edges++];
    edge.row = edge_row(p, number, target), edge.target = target;
    const EdgeOffsets at = edge_offsets(p, edge.row);
    edge.weights = reinterpret_cast<const T* const*>(args.weights) + at.weights;
    edge.alpha = static_cast<const T*>(args.alpha) + edge.row * p.primitives;
    edge.beta = static_cast<const T*>(args.beta) + edge.row;
    edge.mean = static_cast<T*>(args.mean) + at.slots * p.sampled;
    edge.variance = static_cast<T*>(args.variance) + at.slots * p.sampled;
    edge.rstd = rstd + at.slots * p.sampled;
  }
  return state;
}

template <class T>
void fill_rstd(const MixedCell& p, const MixedCellForward& args, T* rstd) {
  const int64_t size = all_edges(p).slots * p.sampled;
  for (int64_t i = 0; i < size; ++i) rstd[i] = rstd_of(p, static_cast<const T*>(args.variance)[i]);
}

// Elements of one unit of all samples.
int64_t whole_unit(const MixedCell& p) {
  return p.batch * unit_size(p, make_grid(p.height, p.width));
}

int64_t z_size(const MixedCell& p) { return all_edges(p).units * whole_unit(p); }

// Where the units of one edge lie in what forward keeps of all of them.
template <class T>
T* kept_z(const MixedCell& p, void* z, int row) {
  return static_cast<T*>(z) + edge_offsets(p, row).units * whole_unit(p);
}

// Where each edge's units lie while they wait for their node: an edge takes the place of one whose
// node is done. Returns how many places are needed.
int places_of_edges(const MixedCell& p, int* place) {
  int owner[kMaxStates * kMaxStates], places = 0;  // the node an edge waits for, 0 when free
  for (int state = 0; state < states_of(p); ++state) {
    for (int i = 0; i < places; ++i) owner[i] = owner[i] == state ? 0 : owner[i];
    for (int target = first_target(p, state); target < states_of(p); ++target) {
      int i = 0;
      while (i < places && owner[i] != 0) ++i;
      if (i == places) ++places;
      owner[i] = target;
      place[edge_row(p, state, target)] = i;
    }
  }
  return places;
}

template <class S, class G>
void forward_of(const MixedCell& p, const G& grid, const MixedCellForward& args,
                const Parallel& parallel) {
  using T = Accumulate<S>;
  int place[kMaxStates * kMaxStates];
  const int places = places_of_edges(p, place);
  const EdgePlan larger = larger_plan(p);
  const int64_t edge_z = larger.units * whole_unit(p);
  struct Arena {
    T *rstd, *z;
    Moments* moments;
  };
  const Arena arena = in_workspace(Workspace::arena, [&](Pieces& pieces) {
    Arena a = {};
    a.rstd = take<T>(pieces, all_edges(p).slots * p.sampled);
    const int64_t slots = measured_slots(p.nodes, larger);
    a.moments = take<Moments>(pieces, chunk_count(p.batch) * slots * p.sampled);
    a.z = take<T>(pieces, args.z == nullptr ? places * edge_z : 0);
    return a;
  });
  if (!p.training) fill_rstd(p, args, arena.rstd);

  State<S, G> states[kMaxStates];
  const int64_t size = p.height * p.width;
  for (int j = 0; j < states_of(p); ++j) {
    if (j >= p.inputs) {
      S* out = static_cast<S*>(args.out) + (j - p.inputs) * p.channels * size;
      node_forward(p, states, j, out, parallel);
    }
    if (j + 1 == states_of(p)) break;
    states[j] = make_state<S>(p, grid, args, j, arena.rstd);
    for (int e = 0; e < states[j].edges; ++e) {
      OutEdge<T>& edge = states[j].edge[e];
      edge.z =
          args.z != nullptr ? kept_z<T>(p, args.z, edge.row) : arena.z + place[edge.row] * edge_z;
    }
    source_forward(p, states[j], parallel, arena.moments);
  }
}

template <int stride, class S, class G>
PCDARTS_INLINE void source_gradient(const MixedCell& p, const State<S, G>& state,
                                    const SourceGradient<S>& grad, const MixedCellBackward& args,
                                    const Parallel& parallel) {
  using T = Accumulate<S>;
  pass_c_gradient<stride>(p, state, grad, parallel);
  finish_sums(p, state, grad, static_cast<T*>(args.grad_alpha), static_cast<T*>(args.grad_beta));
  if (grad.grad_x == nullptr && grad.dw == nullptr) return;
  if (state.plan.separable > 0) pass_b_gradient<stride>(p, state, grad, parallel);
  pass_a_gradient<stride>(p, state, grad, parallel);
  if (grad.dw != nullptr) finish_weights(p, state, grad, args.grad_weights);
}

template <class S, class G>
void backward_of(const MixedCell& p, const G& grid, const MixedCellBackward& args,
                 const Parallel& parallel) {
  using T = Accumulate<S>;
  const int states = states_of(p);
  const int64_t size = p.height * p.width, node = p.channels * size;
  const EdgePlan larger = larger_plan(p);
  const int64_t most_edges = p.nodes, chunks = chunk_count(p.batch);
  struct Arena {
    T *rstd, *z, *first, *middle, *dw;
    NormGradient* norm;
    double* sums;
    S* node;
  };
  const int64_t edge_z = larger.units * whole_unit(p), first_z = larger.separable * whole_unit(p);
  const bool recompute = args.forward.z == nullptr;
  const bool frugal = recompute && args.grad_weights != nullptr && p.sampled < kFrugalChannels;
  const Arena arena = in_workspace(Workspace::arena, [&](Pieces& pieces) {
    Arena a = {};
    a.rstd = take<T>(pieces, all_edges(p).slots * p.sampled);
    a.norm = take<NormGradient>(pieces, most_edges * larger.slots * p.sampled);
    a.sums = take<double>(pieces, chunks * most_edges * most_sums_of_edge(p, larger));
    a.dw = take<T>(pieces, args.grad_weights == nullptr
                               ? 0
                               : chunks * weight_layout<T>(p, p.stride, p.nodes).size);
    a.z = take<T>(pieces, recompute && !frugal ? most_edges * edge_z : 0);
    a.first = take<T>(pieces, most_edges * first_z);
    a.middle = take<T>(pieces, most_edges * first_z);
    a.node = take<S>(pieces, (p.nodes - 1) * p.batch * node);
    return a;
  });
  fill_rstd(p, args.forward, arena.rstd);
  if (args.grad_alpha != nullptr) {
    fill(static_cast<T*>(args.grad_alpha), int64_t{edge_count(p)} * p.primitives, T{0});
  }

  const S* grad_out = static_cast<const S*>(args.grad_out);
  NodeGradient<S> complete[kMaxStates];
  for (int t = p.inputs; t < states; ++t) {
    complete[t] = {grad_out + (t - p.inputs) * node, p.nodes * node};
  }
  for (int j = states - 2; j >= 0; --j) {
    State<S, G> state = make_state<S>(p, grid, args.forward, j, arena.rstd);
    SourceGradient<S> grad = {};
    for (int e = 0; e < state.edges; ++e) {
      OutEdge<T>& edge = state.edge[e];
      edge.z =
          recompute ? arena.z + (frugal ? 0 : e * edge_z) : kept_z<T>(p, args.forward.z, edge.row);
      grad.node[e] = complete[edge.target];
    }
    grad.first = arena.first, grad.middle = arena.middle, grad.norm = arena.norm,
    grad.sums = arena.sums;
    grad.layout = weight_layout<T>(p, state.stride, state.edges);
    grad.dw = args.grad_weights == nullptr ? nullptr : arena.dw;
    grad.recompute = recompute, grad.frugal = frugal;
    grad.need_beta = args.grad_beta != nullptr;
    if (j >= p.inputs) {
      grad.add = complete[j].grad, grad.add_sample = complete[j].sample;
      grad.grad_x = arena.node + (j - p.inputs) * p.batch * node, grad.grad_sample = node;
      complete[j] = {grad.grad_x, node};
    } else {
      grad.grad_x = static_cast<S*>(args.grad_inputs[j]), grad.grad_sample = state.sample;
    }
    if (state.stride == 1) {
      source_gradient<1>(p, state, grad, args, parallel);
    } else {
      source_gradient<2>(p, state, grad, args, parallel);
    }
  }
}

// f.operator()<S>(grid). The square maps of CIFAR's and ImageNet's cells in float32 have code of
// their own: at 8x8 and 14x14, where loops are short or end in part of a vector, it is a fifth
// faster, at 32x32 a thirtieth (2-core EPYC, AVX2).
template <class S, int... sizes, class F>
bool with_square(const MixedCell& p, F f) {
  return (... || (p.height == sizes && p.width == sizes &&
                  (f.template operator()<S>(SquareGrid<sizes>{}), true)));
}

template <class F>
void with_states(const MixedCell& p, F f) {
  with_element_type(p.dtype, [&]<class S>() {
#ifdef __AVX2__
    if constexpr (sizeof(S) == 4) {
      if (with_square<S, 32, 16, 8, 28, 14, 7>(p, f)) return;
    }
#endif
    f.template operator()<S>(make_grid(p.height, p.width));
  });
}

void forward(const MixedCell& p, const MixedCellForward& args, const Parallel& parallel) {
  if (in_stacks(p)) {
    return forward_in_stacks(p, args, parallel, [&](const MixedCell& q, const auto& stacks) {
      forward_of<float>(q, make_stack_grid(q.height, q.width), stacks, parallel);
      if (args.z == nullptr) return;
      const int64_t used = z_size(q);  // the rest is a result too, the same at every call
      fill(static_cast<float*>(args.z) + used, z_size(p) - used, 0.0f);
    });
  }
  with_states(p, [&]<class S>(const auto& grid) { forward_of<S>(p, grid, args, parallel); });
}

void backward(const MixedCell& p, const MixedCellBackward& args, const Parallel& parallel) {
  if (in_stacks(p)) {
    return backward_in_stacks(p, args, parallel, [&](const MixedCell& q, const auto& stacks) {
      backward_of<float>(q, make_stack_grid(q.height, q.width), stacks, parallel);
    });
  }
  with_states(p, [&]<class S>(const auto& grid) { backward_of<S>(p, grid, args, parallel); });
}

}  // namespace
}  // namespace pcdarts::PCDARTS_ISA

PCDARTS_KERNELS(MixedCellKernels, mixed_cell_kernels, z_size, forward, backward)
