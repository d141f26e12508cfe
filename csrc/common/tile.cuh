// A block's share of a plane [H, W] in shared memory, with a halo. A lane owns a quad: four columns
// of one row of one sample. Small planes share a block: a tile then holds several samples.
//
// With stride 2 the input [2H, 2W] is kept as four phases, by the parity of row and column; on
// those everything is of stride 1 again.
#pragma once
#include "common/memory.cuh"

namespace pcdarts {

constexpr int kQuad = 4;

struct Tile {
  int64_t batch;
  int height, width;  // of the output planes
  int stride, phases;
  int quads, rows, samples;  // of one tile
  int halo;                  // rows above and below; one quad left and right
  int pitch, plane;          // floats of a row, of one phase of one channel of one sample
  int across, down;          // tiles of one plane
  int64_t tiles;
};

inline int lanes_of(const Tile& t) { return t.quads * t.rows * t.samples; }
inline int lanes_of_warps(const Tile& t) {
  return static_cast<int>(ceil_div(lanes_of(t), 32) * 32);
}
inline int64_t tile_floats(const Tile& t) { return int64_t{t.samples} * t.phases * t.plane; }

// Tiles of at most `lanes` quads, of which `channels` fit into `floats` of shared memory where even
// one row does.
inline Tile make_tile(int64_t batch, int64_t height, int64_t width, int stride, int halo, int lanes,
                      int64_t channels, int64_t floats) {
  Tile t = {};
  t.batch = batch, t.height = static_cast<int>(height), t.width = static_cast<int>(width);
  t.stride = stride, t.phases = stride * stride, t.halo = halo;
  const int quads = static_cast<int>(ceil_div(width, kQuad));
  t.quads = quads < 8 ? quads : 8;
  t.rows = t.height < lanes / t.quads ? t.height : lanes / t.quads;
  const int64_t samples = lanes / (t.quads * t.rows);
  t.samples = static_cast<int>(batch < samples ? batch : samples);
  t.pitch = (t.quads + 2) * kQuad;
  const auto size = [&] {
    t.plane = (t.rows + 2 * halo) * t.pitch;
    return channels * tile_floats(t);
  };
  while (size() > floats && t.samples > 1) t.samples = (t.samples + 1) / 2;
  while (size() > floats && t.rows > 1) t.rows = (t.rows + 1) / 2;
  t.across = static_cast<int>(ceil_div(quads, t.quads));
  t.down = static_cast<int>(ceil_div(height, t.rows));
  t.tiles = ceil_div(batch, t.samples) * t.across * t.down;
  return t;
}

// The same tiles of another state, whose edges have this stride.
PCDARTS_HD Tile with_stride(Tile t, int stride) {
  t.stride = stride, t.phases = stride * stride;
  return t;
}

// Elements of a row of float maps: rows start at multiples of 32 bytes.
PCDARTS_HD int64_t map_pitch(int64_t width) { return (width + 7) / 8 * 8; }

// The first sample, row and column of a tile.
struct Corner {
  int64_t sample;
  int row, column;
};
__device__ __forceinline__ Corner corner_of(const Tile& t, int64_t tile) {
  const int64_t down = tile / t.across;
  return {down / t.down * t.samples, static_cast<int>(down % t.down) * t.rows,
          static_cast<int>(tile % t.across) * t.quads * kQuad};
}

// A lane's quad: `count` of its columns lie inside the image, from `at` on in a plane of the tile
// (of its sample; the planes of a channel's samples and phases follow one another).
struct Quad {
  int64_t sample;
  int row, column, count, at;
};
__device__ __forceinline__ Quad quad_of(const Tile& t, const Corner& corner, int lane) {
  const int per_sample = t.quads * t.rows;
  const bool exists = lane < per_sample * t.samples;
  const int i = exists ? lane : 0;
  const int s = i / per_sample, row = i % per_sample / t.quads, quad = i % t.quads;
  Quad q;
  q.sample = corner.sample + s;
  q.row = corner.row + row, q.column = corner.column + quad * kQuad;
  const int left = t.width - q.column;
  const bool inside = exists && q.sample < t.batch && q.row < t.height && left > 0;
  q.count = inside ? (left < kQuad ? left : kQuad) : 0;
  q.at = s * t.phases * t.plane + (row + t.halo) * t.pitch + (quad + 1) * kQuad;
  return q;
}

// Fills `channels` channels [channels][samples][phases] of a tile; fetch(channel, sample, row,
// column, v) gives four columns of the input inside the image. Outside of it lies 0.
template <class Fetch>
__device__ __forceinline__ void load_tile(const Tile& t, const Corner& corner, int channels,
                                          float* shared, int thread, int threads, Fetch fetch) {
  const int rows = t.stride * (t.rows + 2 * t.halo), vectors = t.stride * (t.quads + 2);
  const int total = channels * t.samples * rows * vectors;
  for (int i = thread; i < total; i += threads) {
    const int vector = i % vectors, above = i / vectors;
    const int r = above % rows, which = above / rows;  // [channels][samples]
    const int64_t sample = corner.sample + which % t.samples;
    const int row = t.stride * (corner.row - t.halo) + r;
    const int column = t.stride * (corner.column - kQuad) + kQuad * vector;
    float v[kQuad] = {};
    if (sample < t.batch && row >= 0 && row < t.stride * t.height && column >= 0 &&
        column < t.stride * t.width) {
      fetch(which / t.samples, sample, row, column, v);
    }
    float* const plane = shared + which * t.phases * t.plane;
    if (t.stride == 1) {
      put_shared(plane + r * t.pitch + vector * kQuad, v);
      continue;
    }
    float* to = plane + 2 * (r % 2) * t.plane + r / 2 * t.pitch + vector * 2;
    to[0] = v[0], to[1] = v[2];
    to[t.plane] = v[1], to[t.plane + 1] = v[3];
  }
}

// Where the input `offset` rows and columns away from (stride * row, stride * column) lies in the
// tile, relative to the quad.
__device__ __forceinline__ int tile_offset(const Tile& t, int rows, int columns) {
  if (t.stride == 1) return rows * t.pitch + columns;
  return (2 * (rows & 1) + (columns & 1)) * t.plane + (rows >> 1) * t.pitch + (columns >> 1);
}

// A dense tensor of channels: sample b, channel c starts at data + b * sample + c * channel.
struct Channels {
  DType dtype;
  const void* data;
  int64_t sample, channel;
  bool packed;  // all rows may be read in packs of four
};
inline Channels channels_of(DType dtype, const void* data, int64_t sample, int64_t channel,
                            int64_t width) {
  return {dtype, data, sample, channel, width % kQuad == 0 && is_aligned(dtype, data, kQuad)};
}
__device__ __forceinline__ void get_quad(const Channels& x, int64_t sample, int64_t channel,
                                         int64_t width, int row, int column, float (&v)[kQuad]) {
  const int64_t at = sample * x.sample + channel * x.channel + row * width + column;
  get_stored(x.dtype, x.data, at, static_cast<int>(width) - column, x.packed, v);
}

}  // namespace pcdarts
