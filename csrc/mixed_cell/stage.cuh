// One stage of all convolutions of a state's edges (passes A and B) as its kernel sees it.
#pragma once
#include "common/moments.cuh"
#include "mixed_cell/taps.cuh"

namespace pcdarts {

struct StageItem {
  Convolution convolution;
  int slot;             // of `partial`
  float* z;             // [B, C, H, pitch]; null: not wanted
  float* t;             // the depthwise output, laid out as z; null: not wanted
  const float* middle;  // B: the first stage's z, and the batch-norm that follows it
  const float *mean, *rstd;
};
constexpr int kStageItems = 32;
constexpr int kStageLanes = 64, kStageGroups = 4;

struct Stage {
  Tile tile;
  int channels, chunk;   // `chunk` channels of a tile fit into shared memory
  Channels x;            // A: the state
  const int* source;     // A: its sampled channels
  WarpMoments* partial;  // [warps, slots, channels]; null: not wanted
  int slots;
  int pools;  // the first of two slots of the pools' moments; negative: not wanted
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

inline int stage_lanes(const Tile& t) { return static_cast<int>(ceil_div(lanes_of(t), 32) * 32); }
inline Tile stage_tile(int64_t batch, int64_t height, int64_t width, int stride, int64_t channels) {
  const int64_t resident = channels < 32 ? channels : 32;
  return make_tile(batch, height, width, stride, stride == 1 ? 4 : 2, kStageLanes, resident,
                   kStageFloats * 2 / 3);
}
inline int64_t stage_warps(const Tile& t) { return t.tiles * (stage_lanes(t) / 32); }

}  // namespace pcdarts
