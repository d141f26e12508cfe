// One stage of all convolutions of a state's edges (passes A and B) as its kernel sees it.
#pragma once
#include "common/moments.cuh"
#include "mixed_cell/stage_input.cuh"

namespace pcdarts {

struct StageItem {
  Convolution convolution;
  FirstStage middle = {};        // B: what it reads
  float* z = nullptr;            // [B, C, H, pitch]; null: not wanted
  int slot = -1;                 // of `partial`; negative: not wanted
  int row = -1;                  // C': of `sums`, which ...; negative: not wanted
  int edge = 0;                  // ... the gradient of this edge's node, ...
  const float* mean = nullptr;   // ... the mean of the batch-norm behind z ...
  const float* known = nullptr;  // ... and z enter; where z is kept, it need not be computed
};
constexpr int kStageItems = 28;
constexpr int kStageLanes = 64, kStageGroups = 4;

struct Stage {
  Sizes size;
  Tile tile;
  int chunk;             // channels of a tile that fit into shared memory
  StageState state;      // A: what it reads
  WarpMoments* partial;  // [warps, slots, channels]; null: not wanted
  int slots;
  int pools;    // the first of two slots of the pools' moments; negative: not wanted
  float* sums;  // C': [edges, 1 + branches, channels] rows of `warps`: S0, S1; null: not wanted
  int64_t warps;
  EdgePlan plan;
  int edges;  // whose S0, and S1 of pools and skips, this pass leaves
  NodeGrad node[kMaxStates];
  const float* mean[kMaxStates];  // [slots, channels] of every edge
  const int* destination;
  bool packed;    // gradients in packs of four
  bool computes;  // any z at all
  int items, per_block;
  StageItem item[kStageItems];
};

// Output channels that a lane keeps in registers.
template <class F>
void with_outputs(int64_t channels, const F& f) {
  if (channels <= 4) return f.template operator()<4>();
  if (channels <= 8) return f.template operator()<8>();
  if (channels <= 16) return f.template operator()<16>();
  return f.template operator()<32>();
}

constexpr int64_t kStageFloats = 20 * 1024;  // 80 KiB for a tile: the smallest devices have 99

inline Tile stage_tile(const Sizes& n, int stride) {
  const int64_t resident = n.sampled < 32 ? n.sampled : 32;
  return make_tile(n.batch, n.height, n.width, stride, stride == 1 ? 4 : 2, kStageLanes, resident,
                   kStageFloats * 2 / 3);
}
inline int64_t stage_warps(const Tile& t) { return t.tiles * (lanes_of_warps(t) / 32); }

}  // namespace pcdarts
