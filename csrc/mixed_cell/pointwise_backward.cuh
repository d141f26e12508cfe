// Backward through batch-norm and pointwise convolutions: from the gradient that reaches a
// batch-norm, dz = a * upstream + b * z + c, to the depthwise output's gradient dt = P^T dz and to
// dP = sum dz t^T. t was not kept, and z with `store` only: a block holds a tile of what the
// depthwise convolution reads, as in the forward passes, and t of R channels in shared memory. A
// lane keeps its quad of R channels of dt in registers.
#pragma once
#include "common/outer.cuh"
#include "common/rows.cuh"
#include "mixed_cell/stage.cuh"

namespace pcdarts {

struct PointwiseItem {
  Convolution convolution;
  FirstStage middle = {};           // what the depthwise convolution reads: this, or the state
  NodeGrad node;                    // what reaches the batch-norm: the node's gradient ...
  const float* upstream = nullptr;  // ... or a map [B, sampled, H, pitch] where this is not null
  const float* known;               // z where it is kept, a map too; or null
  const Pack<float, 4>* norm;       // [sampled]
  float* dt;                        // a map
  float* partial;                   // [blocks, outputs, sampled]
};
constexpr int kPointwiseItems = 24;

struct Pointwise {
  Sizes size;
  Tile tile;
  int span;          // tiles that one block works through
  StageState state;  // what first stages read
  const int* destination;
  bool packed, need_weights;
  bool computes;      // any t at all
  int chunk;          // channels of a tile in shared memory, ...
  int tile_size;      // ... floats
  bool left_in_tile;  // the tile's memory serves as `left` once t is complete
  int items, per_block;
  PointwiseItem item[kPointwiseItems];
};

// Groups of 64 lanes in a block, at most; and how many blocks registers must leave room for.
template <int R>
constexpr int kPointwiseGroups = R <= 8 ? 2 : 1;
template <int R>
constexpr int kPointwiseResident = R <= 16 ? 4 : 1;

// Floats of shared memory of one of a block's groups.
template <int R>
PCDARTS_HD int pointwise_floats(const Pointwise& a, int channels) {
  const int padded = (channels + R - 1) / R * R, rows = a.left_in_tile ? R : 2 * R;
  return a.chunk * kTapsFloats + R * R + OuterShape<R>::splits * padded * R + rows * kOuterPitch;
}

// z (+)= P t for a lane's quad: rows of `z` from rows of `t`, R of each, in shared memory.
template <int R>
__device__ __forceinline__ void add_pointwise(const float* weights, const float* t, float* z,
                                              bool start) {
  PCDARTS_ROLLED for (int o = 0; o < R; o += 4) {
    float sum[4][4] = {};
    PCDARTS_UNROLLED for (int i = 0; i < 4; ++i) {
      if (!start) get_shared(z + (o + i) * kOuterPitch, sum[i]);
    }
    PCDARTS_ROLLED for (int c = 0; c < R; c += 4) {
      float w[4][4];
      PCDARTS_UNROLLED for (int i = 0; i < 4; ++i) get_shared(weights + (o + i) * R + c, w[i]);
      PCDARTS_UNROLLED for (int j = 0; j < 4; ++j) {
        float v[4];
        get_shared(t + (c + j) * kOuterPitch, v);
        PCDARTS_UNROLLED for (int i = 0; i < 4; ++i) {
          PCDARTS_UNROLLED for (int p = 0; p < 4; ++p) sum[i][p] += w[i][j] * v[p];
        }
      }
    }
    PCDARTS_UNROLLED for (int i = 0; i < 4; ++i) put_shared(z + (o + i) * kOuterPitch, sum[i]);
  }
}

// A convolution's depthwise outputs of the channels [first, first + count) in `tile` to rows of
// `t`, where the group `computes`.
__device__ __forceinline__ void put_depthwise(const Tile& t, const Convolution& conv, int first,
                                              int count, const Quad& q, const float* tile,
                                              float* taps, bool computes, int lane, float* to) {
  const int size = conv.kernel * conv.kernel;
  for (int i = lane; conv.kernel > 1 && i < count * size; i += kOuterLanes) {
    taps[i] = get(conv.depthwise + first * size + i);
  }
  __syncthreads();
  for (int i = 0; computes && i < count; ++i) {
    float v[4];
    depthwise_quad(t, conv, tile + i * t.samples * t.phases * t.plane + q.at, taps + i * size, v);
    PCDARTS_UNROLLED for (int p = 0; p < 4; ++p) v[p] = p < q.count ? v[p] : 0;
    put_shared(to + i * kOuterPitch + 4 * lane, v);
  }
  __syncthreads();
}

template <int R>
__global__ void __launch_bounds__(kOuterLanes* kPointwiseGroups<R>, kPointwiseResident<R>)
    pointwise_backward_kernel(const __grid_constant__ Pointwise a) {
  PCDARTS_SHARED(shared);
  using Shape = OuterShape<R>;
  const Tile& t = a.tile;
  const Sizes& n = a.size;
  const int lane = static_cast<int>(threadIdx.x), group = static_cast<int>(threadIdx.y);
  const int groups = static_cast<int>(blockDim.y), channels = a.state.channels;
  const int own = static_cast<int>(blockIdx.y) * R;  // first channel of dt
  const int padded = (channels + R - 1) / R * R;
  float* const weights = shared + a.tile_size + group * pointwise_floats<R>(a, channels);
  float* const sums = weights + R * R;                     // [splits, padded, R]
  float* const right = sums + Shape::splits * padded * R;  // t
  float* const taps = right + R * kOuterPitch;
  float* const left = a.left_in_tile ? shared : taps + a.chunk * kTapsFloats;  // z, then dz
  const int begin = static_cast<int>(blockIdx.z) * a.per_block;
  const int end = a.items < begin + a.per_block ? a.items : begin + a.per_block;
  int loaded = -1;  // which channels of which tile

  for (int round = begin; round < end; round += groups) {
    const bool valid = round + group < end;
    const PointwiseItem& item = a.item[valid ? round + group : round];
    const Convolution& conv = item.convolution;
    const int outputs = valid ? conv.outputs : 0;
    const bool computes = item.known == nullptr || a.need_weights;
    for (int i = lane; i < Shape::splits * padded * R; i += kOuterLanes) sums[i] = 0;

    for (int k = 0; k < a.span; ++k) {
      const int64_t number = int64_t{blockIdx.x} * a.span + k;
      if (number >= t.tiles) break;
      const Corner corner = corner_of(t, number);
      const Quad q = quad_of(t, corner, lane);
      int held = -1;
      const int64_t channel = t.height * map_pitch(t.width);  // floats between two
      const int64_t at = (q.sample * channels * t.height + q.row) * map_pitch(t.width) + q.column;
      for (int out = 0; out < channels; out += R) {
        for (int step = 0; step <= padded / R; ++step) {  // all channels of t for z, then the own
          const int c = step < padded / R ? step * R : own;
          if (held != out * channels + c) {
            held = out * channels + c;
            __syncthreads();
            for (int i = lane; i < R * R; i += kOuterLanes) {
              const int o = out + i / R, column = c + i % R;
              const bool exists = o < outputs && column < channels;
              weights[i] = exists ? get(conv.pointwise + int64_t{o} * channels + column) : 0;
            }
            const int stop = c + R < channels ? c + R : channels;
            for (int first = c; a.computes && first < stop; first += a.chunk) {
              const int count = stop - first < a.chunk ? stop - first : a.chunk;
              if (loaded != k * channels + first) {
                load_stage_tile(t, corner, a.state, item.middle, first, count, shared,
                                group * kOuterLanes + lane, groups * kOuterLanes);
                loaded = k * channels + first;
              }
              put_depthwise(t, conv, first, count, q, shared, taps, computes, lane,
                            right + (first - c) * kOuterPitch);
            }
            for (int i = stop - c; i < R; ++i) {
              const float none[4] = {};
              put_shared(right + i * kOuterPitch + 4 * lane, none);
            }
            __syncthreads();
            if (a.left_in_tile) loaded = -1;
          }
          if (item.known != nullptr || step == padded / R) continue;
          add_pointwise<R>(weights, right + 4 * lane, left + 4 * lane, c == 0);
        }
        float dt[R][4] = {};
        PCDARTS_ROLLED for (int r = 0; r < R; ++r) {
          const int o = out + r;
          float dz[4] = {};
          if (q.count > 0 && o < outputs) {
            const int to = conv.first + o;
            float upstream[4], z[4];
            if (item.upstream != nullptr) {
              get_some(item.upstream + at + to * channel, kQuad, true, upstream);
            } else {
              get_node_quad(n, item.node, q.sample, get(a.destination + to), q.row, q.column,
                            q.count, a.packed, upstream);
            }
            if (item.known != nullptr) {
              get_some(item.known + at + to * channel, kQuad, true, z);
            } else {
              get_shared(left + r * kOuterPitch + 4 * lane, z);
            }
            const Pack<float, 4> norm = get(item.norm + to);
            PCDARTS_UNROLLED for (int p = 0; p < kQuad; ++p) {
              if (p < q.count) dz[p] = through_norm(norm, upstream[p], z[p]);
            }
            PCDARTS_UNROLLED for (int c = 0; c < R; c += 4) {
              float w[4];
              get_shared(weights + r * R + c, w);
              PCDARTS_UNROLLED for (int j = 0; j < 4; ++j) {
                PCDARTS_UNROLLED for (int p = 0; p < 4; ++p) dt[c + j][p] += w[j] * dz[p];
              }
            }
          }
          if (a.need_weights) put_shared(left + r * kOuterPitch + 4 * lane, dz);
        }
        PCDARTS_UNROLLED for (int c = 0; c < R; ++c) {
          if (!valid || q.count == 0 || own + c >= channels) continue;
          float* const to = item.dt + at + (own + c) * channel;
          float before[4] = {};  // of the outputs before: until here dt takes no registers
          if (out > 0) get_some(to, kQuad, true, before);
          PCDARTS_UNROLLED for (int p = 0; p < kQuad; ++p) dt[c][p] += before[p];
          put_some(to, kQuad, true, dt[c]);
        }
        if (!a.need_weights) continue;
        __syncthreads();
        add_outer<R>(left, right, lane, sums + out * R, R, padded * R);
        __syncthreads();
      }
    }
    if (!a.need_weights) continue;
    __syncthreads();
    float* const to = item.partial + int64_t{blockIdx.x} * outputs * channels;
    for (int i = lane; i < outputs * R; i += kOuterLanes) {
      const int o = i / R, c = own + i % R;
      if (c >= channels) continue;
      float sum = 0;
      for (int s = 0; s < Shape::splits; ++s) sum += sums[s * padded * R + i];
      put(to + int64_t{o} * channels + c, sum);
    }
    __syncthreads();
  }
}

constexpr int64_t kPointwiseBlocks = 256;     // at most, an item
constexpr int64_t kPointwiseTile = 3 * 1024;  // floats of shared memory, where one channel fits
inline Tile pointwise_tile(const Sizes& n, int stride) {
  return make_tile(n.batch, n.height, n.width, stride, stride == 1 ? 4 : 2, kOuterLanes, 1,
                   kPointwiseTile);
}
inline int64_t pointwise_span(const Tile& t) { return ceil_div(t.tiles, kPointwiseBlocks); }
inline int64_t pointwise_blocks(const Tile& t) { return ceil_div(t.tiles, pointwise_span(t)); }

// `together`: how many items that read the state share a block; its warps take them in turn.
inline void launch_pointwise_backward(Pointwise a, int together, void* stream) {
  a.computes = a.need_weights;
  for (int i = 0; i < a.items; ++i) a.computes |= a.item[i].known == nullptr;
  with_outputs(a.state.channels, [&]<int R>() {
    const int groups = together > 1 ? kPointwiseGroups<R> : 1, channels = a.state.channels;
    a.per_block = groups == 1 ? 1 : together;
    a.left_in_tile = groups == 1 && channels <= R;
    const int64_t wide = a.left_in_tile ? R * kOuterPitch : 0;
    const int64_t most = wide > kPointwiseTile ? wide : kPointwiseTile;
    const int64_t fit = most / tile_floats(a.tile), resident = channels > R ? 1 : channels;
    a.chunk = static_cast<int>(fit < 1 ? 1 : fit < resident ? fit : resident);
    const int64_t tile = a.chunk * tile_floats(a.tile);
    a.tile_size = static_cast<int>(tile > wide ? tile : wide);
    const int64_t floats = a.tile_size + groups * int64_t{pointwise_floats<R>(a, channels)};
    launch(&pointwise_backward_kernel<R>,
           dim3(grid_of(pointwise_blocks(a.tile)), static_cast<unsigned>(ceil_div(channels, R)),
                static_cast<unsigned>(ceil_div(a.items, a.per_block))),
           dim3(kOuterLanes, static_cast<unsigned>(groups)),
           static_cast<size_t>(floats) * sizeof(float), stream, a);
  });
}

}  // namespace pcdarts
