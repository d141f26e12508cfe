// One stage of all convolutions of a state's edges (passes A and B): ReLU, depthwise, pointwise,
// and the moments of the results; or, in backward, what S1 needs of them (pass C'). A block holds a
// tile of all channels in shared memory; its warps take the convolutions in turn, and a lane keeps
// its quad of OB output channels in registers.
#pragma once
#include "mixed_cell/stage_sums.cuh"

namespace pcdarts {

// Floats of shared memory besides the tile: a group's weights of `chunk` channels.
PCDARTS_HD int weights_of_chunk(int chunk, int outputs) { return chunk * (kTapsFloats + outputs); }

// The moments of both pools of the channels [first, first + count) in the tile.
__device__ __forceinline__ void pool_moments(const Stage& a, const Quad& q, int first, int count,
                                             const float* tile, WarpMoments* to) {
  const int channel_floats = static_cast<int>(a.tile.samples) * a.tile.phases * a.tile.plane;
  for (int c = static_cast<int>(threadIdx.y); c < count; c += static_cast<int>(blockDim.y)) {
    float values[2][4] = {};
    PCDARTS_UNROLLED for (int p = 0; p < kQuad; ++p) {
      if (p >= q.count) continue;
      const Pooled pooled =
          pool_pixel(a.tile, tile + c * channel_floats + q.at + p, q.row, q.column + p);
      values[0][p] = pooled.largest, values[1][p] = pooled.average;
    }
    PCDARTS_UNROLLED for (int k = 0; k < 2; ++k) {
      const float one[1][4] = {{values[k][0], values[k][1], values[k][2], values[k][3]}};
      put_warp_moments<1>(one, q.count, 1, to + (a.pools + k) * a.state.channels + first + c);
    }
  }
}

template <int OB>
__global__ void __launch_bounds__(kStageLanes* kStageGroups, OB == 4 ? 2 : 1)
    stage_kernel(const __grid_constant__ Stage a) {
  PCDARTS_SHARED(shared);
  const Tile& t = a.tile;
  const int lane = static_cast<int>(threadIdx.x), lanes = static_cast<int>(blockDim.x);
  const int group = static_cast<int>(threadIdx.y), groups = static_cast<int>(blockDim.y);
  const Corner corner = corner_of(t, blockIdx.x);
  const Quad q = quad_of(t, corner, lane);
  const int channels = a.state.channels, channel_floats = t.samples * t.phases * t.plane;
  float* const depthwise =
      shared + a.chunk * channel_floats + group * weights_of_chunk(a.chunk, OB);
  float* const pointwise = depthwise + a.chunk * kTapsFloats;
  const int64_t warp = (int64_t{blockIdx.x} * lanes + lane) / 32;
  WarpMoments* const moments =
      a.partial == nullptr ? nullptr : a.partial + warp * a.slots * channels;
  const int begin = static_cast<int>(blockIdx.z) * a.per_block;
  const int end = a.items < begin + a.per_block ? a.items : begin + a.per_block;
  int loaded = -1;

  const auto need = [&](const StageItem& item, int first) {  // by all threads of the block
    __syncthreads();
    if (loaded == first) return;
    const int count = channels - first < a.chunk ? channels - first : a.chunk;
    load_stage_tile(t, corner, a.state, item.middle, first, count, shared, group * lanes + lane,
                    groups * lanes);
    loaded = first;
  };

  const bool whole = (a.pools >= 0 || a.edges > 0) && blockIdx.z == 0;
  for (int first = 0; whole && first < channels; first += a.chunk) {
    need(a.item[0], first);
    __syncthreads();
    const int count = channels - first < a.chunk ? channels - first : a.chunk;
    if (a.pools >= 0) pool_moments(a, q, first, count, shared, moments);
    if (a.edges > 0) put_state_sums(a, q, first, count, shared, warp);
  }
  for (int round = begin; round < end; round += groups) {
    const bool valid = round + group < end;
    const StageItem& item = a.item[valid ? round + group : round];
    const Convolution& conv = item.convolution;
    const bool computes = valid && item.known == nullptr;
    for (int out = 0; out < channels; out += OB) {
      float z[OB][4] = {};
      for (int first = 0; a.computes && first < channels; first += a.chunk) {
        const int count = channels - first < a.chunk ? channels - first : a.chunk;
        need(item, first);
        const int taps = conv.kernel * conv.kernel;
        for (int i = lane; conv.kernel > 1 && i < count * taps; i += lanes) {
          depthwise[i] = get(conv.depthwise + first * taps + i);
        }
        for (int i = lane; i < count * OB; i += lanes) {
          const int c = i / OB, o = out + i % OB;
          pointwise[i] =
              o < conv.outputs ? get(conv.pointwise + int64_t{o} * channels + first + c) : 0;
        }
        __syncthreads();
        for (int c = 0; computes && out < conv.outputs && c < count; ++c) {
          float v[4];
          depthwise_quad(t, conv, shared + c * channel_floats + q.at, depthwise + c * taps, v);
          PCDARTS_UNROLLED for (int o = 0; o < OB; o += 4) {
            float w[4];
            get_shared(pointwise + c * OB + o, w);
            PCDARTS_UNROLLED for (int i = 0; i < 4; ++i) {
              PCDARTS_UNROLLED for (int p = 0; p < 4; ++p) z[o + i][p] += w[i] * v[p];
            }
          }
        }
      }
      const int left = conv.outputs - out;
      if (!valid || left <= 0) continue;
      if (item.z != nullptr && q.count > 0) {
        PCDARTS_UNROLLED for (int o = 0; o < OB; ++o) {
          if (o >= left) continue;
          const int64_t channel = q.sample * channels + conv.first + out + o;
          const int64_t row = channel * t.height + q.row;
          put_some(item.z + row * map_pitch(t.width) + q.column, kQuad, true, z[o]);
        }
      }
      if (item.row >= 0) put_output_sums<OB>(a, item, q, z, out, left, warp);
      if (item.slot >= 0 && moments != nullptr) {
        put_warp_moments<OB>(z, q.count, left,
                             moments + int64_t{item.slot} * channels + conv.first + out);
      }
    }
  }
}

// Runs `a` but for its tile-dependent members; `together`: all items from one read of the tile.
inline void launch_stage(Stage a, bool together, void* stream) {
  if (a.items == 0 && a.pools < 0 && a.edges == 0) return;
  with_outputs(a.state.channels, [&]<int OB>() {
    const int groups = together ? kStageGroups : 1;
    const auto floats = [&] {
      return a.chunk * tile_floats(a.tile) + groups * weights_of_chunk(a.chunk, OB);
    };
    a.chunk = a.state.channels, a.computes = false;
    for (int i = 0; i < a.items; ++i) a.computes |= a.item[i].known == nullptr;
    while (floats() > kStageFloats && a.chunk > 1) a.chunk = (a.chunk + 1) / 2;
    a.per_block = together ? (a.items > 0 ? a.items : 1) : 1;
    const unsigned rows = static_cast<unsigned>(together || a.items == 0 ? 1 : a.items);
    launch(&stage_kernel<OB>, dim3(grid_of(a.tile.tiles), 1, rows),
           dim3(static_cast<unsigned>(lanes_of_warps(a.tile)), static_cast<unsigned>(groups)),
           static_cast<size_t>(floats()) * sizeof(float), stream, a);
  });
}

}  // namespace pcdarts
