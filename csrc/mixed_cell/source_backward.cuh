// One state's share of backward: what its passes need, and the passes.
#pragma once
#include "common/outer.cuh"
#include "mixed_cell/schedule.cuh"

namespace pcdarts {

struct BackwardScratch {
  int *source, *destination;
  float* rstd;
  float *first, *middle;    // of one state's edges: first stages and their gradients
  float *dt, *dt_second;    // gradients of the depthwise outputs
  float *partial, *bypass;  // partial sums of pass C'
  double* sums;
  Pack<float, 4>* norm;
  Pack<float, 2>* exchange;
  // partial weight gradients of all edges, merged at the end; floats of one edge
  float *pointwise, *pointwise_second, *depthwise, *depthwise_second;
  struct {
    int64_t pointwise, pointwise_second, depthwise, depthwise_second;
  } of_edge;
  float* middle_sums;
  float* carry[2];
  char* nodes;  // gradients of the nodes inside of the cell
};

// What the passes of one state share.
struct Source {
  const MixedCell& p;
  const MixedCellBackward& args;
  const CellState& state;
  const BackwardScratch& scratch;
  std::vector<MergedWeight>& weights;  // partial gradients that wait to be merged
  void* stream;
  bool packed;                     // node gradients in packs of four
  NodeGrad node[kMaxStates] = {};  // of every edge
  NodeGrad add = {};               // what is added to the result
  void* grad_x = nullptr;          // null: not needed
  int64_t grad_sample = 0;

  Sizes size() const { return sizes_of(p); }
  // z of a branch that forward has kept, or null.
  const float* known(int e, const Branch& branch) const {
    const float* const z = state.edge[e].z;
    return z == nullptr ? nullptr : z + branch.unit * size().unit;
  }
  bool need_weights() const { return args.grad_weights != nullptr; }
  Pack<float, 4>* norm(int e, int slot) const {
    return scratch.norm + (int64_t{e} * state.plan.slots + slot) * p.sampled;
  }
  void merge_later(int e, int weight, const float* partial, int64_t size, int64_t count) {
    const int number = edge_offsets(p, state.row[e]).weights + weight;
    float* const to = static_cast<float*>(args.grad_weights[number]);
    weights.push_back({partial, to, static_cast<int>(size), static_cast<int>(count)});
  }
};

// How many blocks leave partial weight gradients and sums, by kernel (cuda_convolutions.cu).
struct BackwardBlocks {
  int64_t pointwise, state, middle;
};
BackwardBlocks backward_blocks(const Sizes&, int stride);

// Pass B': the second stage of the separable convolutions.
void second_backward(Source&);
// Pass A': the first stage of all edges, and everything else that reaches the state.
void first_backward(Source&);

}  // namespace pcdarts
