// How the kernels of a cell see its states and edges.
#pragma once
#include "common/tile.cuh"
#include "mixed_cell/math.h"
#include "mixed_cell/taps.cuh"

namespace pcdarts {

constexpr int kStateItems = 48;  // convolutions that one launch of pass A' takes
// 40 KiB for the tiles of one channel: a block has 48 KiB of shared memory without asking.
constexpr int64_t kChannelFloats = 10 * 1024;

// What one edge reads. Slots and units count from the edge's own first one.
struct DeviceEdge {
  const float *alpha, *beta;  // [primitives], [1]
  const float *mean, *rstd;   // [slots, sampled]
  float* z;                   // [units, B, sampled, H, pitch]
};

struct Sizes {
  DType dtype;  // of states and their gradients
  int64_t batch, channels, sampled, height, width;
  int64_t unit;  // floats of one unit of all samples
};

// Four columns of a unit at a lane's quad.
__device__ __forceinline__ void get_unit(const Sizes& n, const float* z, int unit, int64_t sample,
                                         int64_t channel, int row, int column, float (&v)[kQuad]) {
  const int64_t at = ((sample * n.sampled + channel) * n.height + row) * map_pitch(n.width);
  get_some(z + unit * n.unit + at + column, kQuad, true, v);
}

// The complete gradient of a node: sample b, channel c at data + b * sample + c * H * W.
struct NodeGrad {
  const void* data;
  int64_t sample;
};
template <class S>
__device__ __forceinline__ const S* node_channel(const Sizes& n, const NodeGrad& node,
                                                 int64_t sample, int64_t channel) {
  return static_cast<const S*>(node.data) + sample * node.sample + channel * n.height * n.width;
}
// Four columns of it, of which the first `count` exist.
__device__ __forceinline__ void get_node_quad(const Sizes& n, const NodeGrad& node, int64_t sample,
                                              int64_t channel, int64_t row, int64_t column,
                                              int count, bool packed, float (&g)[kQuad]) {
  const int64_t at = sample * node.sample + (channel * n.height + row) * n.width + column;
  get_stored(n.dtype, node.data, at, count, packed, g);
}

// Both pools and the value itself of the pixels of a quad.
struct StateQuad {
  float largest[kQuad], average[kQuad], own[kQuad];
};
__device__ __forceinline__ void get_state_quad(const Tile& t, const float* tile, const Quad& q,
                                               bool pools, StateQuad& s) {
  get_shared(tile + q.at, s.own);
  PCDARTS_UNROLLED for (int p = 0; p < kQuad; ++p) {
    const bool pooled = pools && p < q.count;
    const Pooled v = pooled ? pool_pixel(t, tile + q.at + p, q.row, q.column + p) : Pooled{0, 0, 0};
    s.largest[p] = v.largest, s.average[p] = v.average;
  }
}

// What a branch adds up at a quad: its convolutions' output, a pool, or the value itself.
__device__ __forceinline__ void get_branch_quad(const Sizes& n, const Branch& branch, int stride,
                                                const float* z, const StateQuad& state,
                                                int64_t channel, const Quad& q, float (&v)[kQuad]) {
  const Kind kind = branch.primitive.kind;
  if (units_of(kind, stride) && q.count > 0) {
    get_unit(n, z, branch.unit, q.sample, channel, q.row, q.column, v);
    return;
  }
  PCDARTS_UNROLLED for (int p = 0; p < kQuad; ++p) {
    v[p] = kind == Kind::max_pool   ? state.largest[p]
           : kind == Kind::avg_pool ? state.average[p]
                                    : state.own[p];
  }
}

// One channel of a tile of a state, by all threads of the block.
__device__ __forceinline__ void load_state_tile(const Tile& t, const Corner& corner,
                                                const Channels& state, int64_t channel,
                                                float* shared) {
  load_tile(t, corner, 1, shared, static_cast<int>(threadIdx.x), static_cast<int>(blockDim.x),
            [&](int, int64_t b, int row, int column, float (&v)[kQuad]) {
              get_quad(state, b, channel, int64_t{t.stride} * t.width, row, column, v);
            });
}

}  // namespace pcdarts
