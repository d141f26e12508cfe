// <bypass gradient, bypass> of every edge, and what all sums of pass C' give: the gradients of
// alpha and beta, and every last batch-norm's formula. Warps leave partial sums; a block an edge
// then adds them up in a fixed order.
#pragma once
#include "common/bypass.cuh"
#include "common/rows.cuh"
#include "mixed_cell/edges.cuh"

namespace pcdarts {

constexpr int kSumThreads = 256;

struct BypassSums {
  Sizes size;
  int stride, edges;
  Channels state;
  NodeGrad node[kMaxStates];
  const int *source, *destination;
  bool wide;    // packs of 16 bytes
  float* sums;  // [edges, channels - sampled] rows of `warps`
  int64_t warps;
};

template <class S>
__device__ __forceinline__ void sum_bypass(const BypassSums& a, int64_t position) {
  constexpr int N = kWide<S>;
  const int64_t from = get(a.source + position), to = get(a.destination + position);
  const BypassPlane plane = bypass_plane(a.size.height, a.size.width, a.stride, N);
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const bool exists = i < a.size.batch * plane.packs;
  const PackPlace at = pack_place<N>(plane, exists ? i : 0);
  float x[N];
  get_bypass(
      static_cast<const S*>(a.state.data) + at.sample * a.state.sample + from * a.state.channel,
      a.stride, plane, at, a.wide, x);
  const int64_t bypasses = a.size.channels - a.size.sampled;
  for (int e = 0; e < a.edges; ++e) {
    float g[N], sum = 0;
    get_some(node_channel<S>(a.size, a.node[e], at.sample, to) + at.row * plane.width + at.column,
             at.count, a.wide, g);
    PCDARTS_UNROLLED for (int k = 0; k < N; ++k) sum += exists && k < at.count ? g[k] * x[k] : 0;
    sum = warp_sum(sum);
    if (threadIdx.x % 32 != 0) continue;
    put(a.sums + (e * bypasses + position - a.size.sampled) * a.warps + i / 32, sum);
  }
}

static __global__ void __launch_bounds__(kSumThreads, 3)
    sums_kernel(const __grid_constant__ BypassSums a) {
  const int64_t position = a.size.sampled + blockIdx.y;
  with_stored_type(a.size.dtype, [&]<class S>() { sum_bypass<S>(a, position); });
}

inline int64_t bypass_warps(const Sizes& n, int stride) {
  if (n.channels == n.sampled) return 0;
  const BypassPlane plane = bypass_plane(n.height, n.width, stride, wide_of(n.dtype));
  return ceil_div(n.batch * plane.packs, kSumThreads) * (kSumThreads / 32);
}

inline void launch_bypass_sums(const BypassSums& a, void* stream) {
  launch(&sums_kernel,
         dim3(grid_of(a.warps / (kSumThreads / 32)),
              static_cast<unsigned>(a.size.channels - a.size.sampled)),
         kSumThreads, 0, stream, a);
}

// What the sums give: the gradients of alpha and beta, and every last batch-norm's formula.
struct FinishSums {
  Sizes size;
  EdgePlan plan;
  int stride, edges;
  DeviceEdge edge[kMaxStates];
  int row[kMaxStates];
  int primitives;
  bool training;
  // [edges, 1 + branches, sampled] rows of `warps`: S0, then S1 of every branch, not yet times
  // rstd. A first stage has filled `first_warps` of a row, a second stage `second_warps`.
  const float* partial;
  int64_t warps, first_warps, second_warps;
  const float* bypass;  // as in BypassSums; null: not needed
  int64_t bypass_warps;
  double* sums;                   // [edges, 1 + branches, sampled]
  Pack<float, 4>* norm;           // [edges, slots, sampled]: upstream, own, constant, mean
  float *grad_alpha, *grad_beta;  // null: not needed
};
constexpr int kFinishThreads = 512, kFinishWarps = kFinishThreads / 32;

// The sum of a value of every thread of the block, in every thread.
__device__ __forceinline__ double finish_total(double value, double* warps) {
  value = warp_sum(value);
  __syncthreads();
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
  __syncthreads();
  double sum = 0;
  for (int i = 0; i < kFinishWarps; ++i) sum += warps[i];
  return sum;
}

static __global__ void __launch_bounds__(kFinishThreads, 1)
    finish_sums(const __grid_constant__ FinishSums a) {
  PCDARTS_SHARED(shared);
  double* const warps = reinterpret_cast<double*>(shared);
  const int e = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
  const DeviceEdge& edge = a.edge[e];
  const int64_t rows = (1 + a.plan.branches) * a.size.sampled;
  double* const s0 = a.sums + e * rows;
  for (int64_t row = thread / 32; row < rows; row += kFinishWarps) {
    const int64_t i = row / a.size.sampled - 1;
    const bool second = i >= 0 && a.plan.branch[i].primitive.kind == Kind::sep_conv;
    const double sum =
        sum_row(a.partial + (e * rows + row) * a.warps, second ? a.second_warps : a.first_warps);
    if (thread % 32 == 0) put(s0 + row, sum);
  }
  double d_beta = 0;
  const int64_t length = (a.size.channels - a.size.sampled) * a.bypass_warps;
  for (int64_t i = thread; a.bypass != nullptr && i < length; i += kFinishThreads) {
    d_beta += static_cast<double>(get(a.bypass + e * length + i));
  }
  d_beta = finish_total(d_beta, warps);  // after which s0 is complete
  for (int i = thread; a.grad_alpha != nullptr && i < a.primitives; i += kFinishThreads) {
    put(a.grad_alpha + a.row[e] * a.primitives + i, 0.f);  // of `none`; the others follow
  }
  const double beta = static_cast<double>(get(edge.beta));
  const double count = static_cast<double>(a.size.batch * a.size.height * a.size.width);
  for (int i = 0; i < a.plan.branches; ++i) {
    const Branch& branch = a.plan.branch[i];
    const double alpha = static_cast<double>(get(edge.alpha + branch.column));
    const bool plain = is_plain_skip(branch.primitive.kind, a.stride);
    double sum = 0;
    PCDARTS_ROLLED for (int64_t c = thread; c < a.size.sampled; c += kFinishThreads) {
      const int64_t at = last_slot(branch) * a.size.sampled + c;
      const double rstd = plain ? 1 : static_cast<double>(get(edge.rstd + at));
      const double s1 = get(s0 + (1 + i) * a.size.sampled + c) * rstd;
      sum += s1;
      if (plain) continue;
      const double mean = static_cast<double>(get(edge.mean + at));
      put_norm(a.norm + int64_t{e} * a.plan.slots * a.size.sampled + at,
               norm_gradient(alpha * beta, 0, rstd, get(s0 + c), s1, count, a.training), mean);
    }
    sum = finish_total(sum, warps);
    d_beta += alpha * sum;
    if (thread == 0 && a.grad_alpha != nullptr) {
      put(a.grad_alpha + a.row[e] * a.primitives + branch.column, static_cast<float>(beta * sum));
    }
  }
  if (thread == 0 && a.grad_beta != nullptr) {
    put(a.grad_beta + a.row[e], static_cast<float>(d_beta));
  }
}

inline void launch_finish_sums(const FinishSums& a, void* stream) {
  launch(&finish_sums, static_cast<unsigned>(a.edges), kFinishThreads,
         kFinishWarps * sizeof(double), stream, a);
}

}  // namespace pcdarts
