// The gradient of a state (pass A'): through the depthwise convolutions of all edges and the ReLU,
// through pools and skips, and through the bypass. Every channel is written once.
#pragma once
#include "common/bypass.cuh"
#include "mixed_cell/depthwise_backward.cuh"

namespace pcdarts {

struct StateGradient {
  Sizes size;
  Tile tile;
  int64_t span;
  EdgePlan plan;
  int stride, edges;
  Channels state;
  NodeGrad node[kMaxStates];  // the edges' complete node gradients
  const float *alpha[kMaxStates], *beta[kMaxStates];
  const Pack<float, 4>* norm;  // [edges, slots, sampled]
  const int *source, *destination;
  NodeGrad add;  // added to the result, laid out as the state; or null
  void* grad_x;  // null: not needed
  int64_t grad_sample, grad_channel;
  bool packed, grad_packed, wide;  // node gradients and result in packs of four; bypass
  bool need_weights;
  const float* carried_in;  // [B, sampled, phases, H, pitch]: the sum so far of an
  float* carried_out;       // earlier launch, for a later one; or null
  int items;
  DepthwiseItem item[kStateItems];
};

// What one sampled channel gets back past the convolutions: weights of each node's gradient, and of
// the pools' own values.
struct StateTerms {
  float upstream[2][kMaxStates], skip[kMaxStates], own[2][kMaxStates], constant[2][kMaxStates];
  float mean[2];  // the edges share their state's pools
};
__device__ __forceinline__ void put_state_terms(const StateGradient& a, int64_t channel,
                                                StateTerms& terms) {
  const int e = static_cast<int>(threadIdx.x);
  if (e >= a.edges) return;
  float skip = 0;
  PCDARTS_UNROLLED for (int k = 0; k < 2; ++k) {
    terms.upstream[k][e] = terms.own[k][e] = terms.constant[k][e] = 0;
    if (e == 0) terms.mean[k] = 0;
  }
  for (int i = 0; i < a.plan.branches; ++i) {
    const Branch& branch = a.plan.branch[i];
    const Kind kind = branch.primitive.kind;
    if (is_plain_skip(kind, a.stride)) skip += get(a.beta[e]) * get(a.alpha[e] + branch.column);
    if (!is_pool(kind)) continue;
    const Pack<float, 4> norm =
        get(a.norm + (int64_t{e} * a.plan.slots + branch.slot) * a.size.sampled + channel);
    const int k = kind == Kind::avg_pool;
    terms.upstream[k][e] += norm.value[0], terms.own[k][e] += norm.value[1];
    terms.constant[k][e] += norm.value[2];
    if (e == 0) terms.mean[k] = norm.value[3];
  }
  terms.skip[e] = skip;
}

// The pools' gradients at every window that meets the tile: the maximum's in `largest`, with the
// winning place in `winner`, and the average's share in `average`; all laid out as tile `u`.
__device__ __forceinline__ void pool_windows(const StateGradient& a, const Tile& u,
                                             const Corner& corner, int64_t destination,
                                             const StateTerms& terms, const float* x,
                                             float* largest, float* average, float* winner) {
  const Tile& t = a.tile;
  const int across = t.quads + 2, rows = t.rows + 2, total = t.samples * rows * across;
  for (int i = static_cast<int>(threadIdx.x); i < total; i += static_cast<int>(blockDim.x)) {
    const int quad = i % across - 1, r = i / across % rows - 1, s = i / across / rows;
    const int64_t sample = corner.sample + s;
    const int row = corner.row + r, column = corner.column + quad * kQuad;
    const int in_plane = (r + t.halo) * t.pitch + (quad + 1) * kQuad;
    const int left = t.width - column;
    const bool inside = sample < t.batch && row >= 0 && row < t.height && column >= 0 && left > 0;
    const int count = inside ? (left < kQuad ? left : kQuad) : 0;
    float up[2][kQuad] = {};
    for (int e = 0; count > 0 && e < a.edges; ++e) {
      float g[kQuad];
      get_node_quad(a.size, a.node[e], sample, destination, row, column, count, a.packed, g);
      PCDARTS_UNROLLED for (int k = 0; k < 2; ++k) {
        const bool has = k == 0 ? a.plan.max_pools : a.plan.avg_pools;  // else 0, times infinity
        PCDARTS_UNROLLED for (int p = 0; has && p < kQuad; ++p) {
          up[k][p] += terms.upstream[k][e] * g[p];
        }
      }
    }
    PCDARTS_UNROLLED for (int p = 0; p < kQuad; ++p) {
      const bool needed = quad < 0 ? p == kQuad - 1 : quad < t.quads || p == 0;
      if (!needed) continue;  // nothing beyond one column outside
      const int at = s * u.plane + in_plane + p;
      largest[at] = average[at] = 0, winner[at] = -1;
      if (p >= count) continue;
      const Pooled v = pool_pixel(t, x + s * t.phases * t.plane + in_plane + p, row, column + p);
      float down[2] = {up[0][p], up[1][p]};
      for (int e = 0; e < a.edges; ++e) {
        down[0] += of_own(terms.own[0][e], v.largest - terms.mean[0]) + terms.constant[0][e];
        down[1] += of_own(terms.own[1][e], v.average - terms.mean[1]) + terms.constant[1][e];
      }
      largest[at] = down[0], winner[at] = static_cast<float>(v.winner);
      average[at] = down[1] * pool_share(t, row, column + p);
    }
  }
}

// dr += what the windows around each pixel of a quad send back; `at` is the quad's place.
template <int stride>
__device__ __forceinline__ void add_pools(const Tile& u, int at, const float* largest,
                                          const float* average, const float* winner,
                                          float (&dr)[stride * stride][4]) {
  PCDARTS_UNROLLED for (int phase = 0; phase < stride * stride; ++phase) {
    const int py = phase / 2, px = phase % 2;
    const int first = stride == 1 ? -1 : 0;
    PCDARTS_UNROLLED for (int y = first; y <= (stride == 1 ? 1 : py); ++y) {
      PCDARTS_UNROLLED for (int x = first; x <= (stride == 1 ? 1 : px); ++x) {
        const int place = 3 * (py + 1 - stride * y) + px + 1 - stride * x;
        PCDARTS_UNROLLED for (int p = 0; p < kQuad; ++p) {
          const int w = at + y * u.pitch + x + p;
          dr[phase][p] += average[w];
          if (winner[w] == static_cast<float>(place)) dr[phase][p] += largest[w];
        }
      }
    }
  }
}

// Writes stride rows of stride * 4 columns of the result.
template <int stride>
__device__ __forceinline__ void put_state_quad(const StateGradient& a, int64_t channel,
                                               const Quad& q,
                                               const float (&dr)[stride * stride][4]) {
  const int64_t width = stride * a.size.width;
  PCDARTS_UNROLLED for (int row = 0; row < stride; ++row) {
    PCDARTS_UNROLLED for (int half = 0; half < stride; ++half) {
      float v[4];
      PCDARTS_UNROLLED for (int p = 0; p < 4; ++p) {
        const int column = half * 4 + p;
        v[p] = dr[stride * row + column % stride][column / stride];
      }
      const int count = stride * q.count - half * 4;
      const int64_t at =
          channel * a.grad_channel + (stride * q.row + row) * width + stride * q.column + half * 4;
      if (a.add.data != nullptr) {
        float more[4];
        get_stored(a.size.dtype, a.add.data, q.sample * a.add.sample + at, count, a.grad_packed,
                   more);
        PCDARTS_UNROLLED for (int p = 0; p < 4; ++p) v[p] += more[p];
      }
      put_stored(a.size.dtype, a.grad_x, q.sample * a.grad_sample + at, count, a.grad_packed, v);
    }
  }
}

}  // namespace pcdarts
