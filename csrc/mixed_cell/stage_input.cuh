// What a stage's depthwise convolutions read: a state, or the first stage's output, normalised and
// rectified as it is loaded.
#pragma once
#include "mixed_cell/edges.cuh"

namespace pcdarts {

constexpr int kTapsFloats = 28;  // room for a channel's taps; what lies behind is 16-byte aligned
static_assert(kTapsFloats >= kMostTaps && kTapsFloats % 4 == 0);

struct StageState {
  Channels x;
  const int* source;  // its sampled channels
  int channels;       // how many
};
struct FirstStage {
  const float* z;            // [B, channels, H, pitch]; null: the state is read
  const float *mean, *rstd;  // of the batch-norm that follows it
};

// v = relu((v - mean) * rstd), of which only the first `count` lie inside the image; 0 beyond.
__device__ __forceinline__ void rectify_quad(float mean, float rstd, int count, float (&v)[kQuad]) {
  PCDARTS_UNROLLED for (int p = 0; p < kQuad; ++p) {
    v[p] = p < count ? relu((v[p] - mean) * rstd) : 0;
  }
}

// The channels [first, first + count) of a tile, by `threads` threads.
__device__ __forceinline__ void load_stage_tile(const Tile& t, const Corner& corner,
                                                const StageState& state, const FirstStage& middle,
                                                int first, int count, float* shared, int thread,
                                                int threads) {
  const int64_t width = int64_t{t.stride} * t.width;
  if (middle.z == nullptr) {
    load_tile(t, corner, count, shared, thread, threads,
              [&](int c, int64_t b, int row, int column, float (&v)[kQuad]) {
                get_quad(state.x, b, get(state.source + first + c), width, row, column, v);
              });
    return;
  }
  const int64_t pitch = map_pitch(t.width);
  load_tile(t, corner, count, shared, thread, threads,
            [&](int c, int64_t b, int row, int column, float (&v)[kQuad]) {
              const int channel = first + c;
              const float mean = get(middle.mean + channel), rstd = get(middle.rstd + channel);
              const int64_t at = ((b * state.channels + channel) * t.height + row) * pitch + column;
              get_some(middle.z + at, kQuad, true, v);
              rectify_quad(mean, rstd, t.width - column, v);
            });
}

}  // namespace pcdarts
