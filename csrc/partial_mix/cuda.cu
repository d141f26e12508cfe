// partial_mix streams: planes in packs of 16 bytes, a block a few packs of one channel.
#include "partial_mix/cuda.h"

#include "common/bypass.cuh"
#include "common/rows.cuh"
#include "common/tables.cuh"

namespace pcdarts {
namespace {

constexpr int kMixThreads = 256;

struct Mix {
  int64_t batch, channels, mixed, height, width;
  int stride, outputs;
  bool wide;
  const int *source, *destination;
  const float* weights;
  Planes x, grad;
  void *out, *grad_x;
  float* partial;  // [outputs, mixed, warps]
  int64_t warps;
  Planes output[kMostOutputs];
};
struct MixTargets {
  void* grad_output[kMostOutputs];
};

template <class S>
__global__ void __launch_bounds__(kMixThreads) mix_kernel(const __grid_constant__ Mix a) {
  constexpr int N = kWide<S>;
  const int64_t position = blockIdx.y, size = a.height * a.width;
  const bool mixes = position < a.mixed;
  const int stride = mixes ? 1 : a.stride;  // mixed planes are read as one long row
  const BypassPlane plane = bypass_plane(a.height, a.width, stride, N);
  const PackPlace at = pack_place<N>(plane, int64_t{blockIdx.x} * kMixThreads + threadIdx.x);
  if (at.sample >= a.batch) return;
  float sum[N] = {};
  if (mixes) {
    for (int i = 0; i < a.outputs; ++i) {
      const float weight = get(a.weights + i);
      float v[N];
      get_some(pcdarts::plane<S>(a.output[i], at.sample, position) + at.column, at.count, a.wide,
               v);
      PCDARTS_UNROLLED for (int k = 0; k < N; ++k) sum[k] += weight * v[k];
    }
  } else {
    get_bypass(pcdarts::plane<S>(a.x, at.sample, get(a.source + position)), stride, plane, at,
               a.wide, sum);
  }
  const int64_t channel = at.sample * a.channels + get(a.destination + position);
  put_some(static_cast<S*>(a.out) + channel * size + at.row * plane.width + at.column, at.count,
           a.wide, sum);
}

template <class S>
__global__ void __launch_bounds__(kMixThreads)
    mix_backward_kernel(const __grid_constant__ Mix a, const __grid_constant__ MixTargets targets,
                        bool need_outputs) {
  constexpr int N = kWide<S>;
  const int64_t position = blockIdx.y, size = a.height * a.width;
  const bool mixes = position < a.mixed;
  const int stride = mixes ? 1 : a.stride;
  const BypassPlane plane = bypass_plane(a.height, a.width, stride, N);
  const int64_t number = int64_t{blockIdx.x} * kMixThreads + threadIdx.x;
  PackPlace at = pack_place<N>(plane, number);
  const bool exists = at.sample < a.batch;
  if (!exists) at = {0, 0, 0, 0};
  const S* from = pcdarts::plane<S>(a.grad, at.sample, get(a.destination + position));
  const int64_t channel = at.sample * a.channels + get(a.source + position);
  S* const to = static_cast<S*>(a.grad_x) + channel * size * a.stride * a.stride;
  float g[N];
  get_some(from + at.row * plane.width + at.column, at.count, a.wide, g);
  if (!mixes) {
    if (!exists || a.grad_x == nullptr) return;
    const S* x =
        stride == 2 ? pcdarts::plane<S>(a.x, at.sample, get(a.source + position)) : nullptr;
    put_bypass_gradient(x, stride, plane, at, a.wide, g, to);
    return;
  }
  for (int i = 0; i < a.outputs; ++i) {
    if (need_outputs && exists) {
      const float weight = get(a.weights + i);
      float v[N];
      PCDARTS_UNROLLED for (int k = 0; k < N; ++k) v[k] = weight * g[k];
      S* const grad = static_cast<S*>(targets.grad_output[i]);
      put_some(grad + (at.sample * a.mixed + position) * size + at.column, at.count, a.wide, v);
    }
    if (a.partial == nullptr) continue;
    float v[N], sum = 0;
    get_some(pcdarts::plane<S>(a.output[i], at.sample, position) + at.column, at.count, a.wide, v);
    PCDARTS_UNROLLED for (int k = 0; k < N; ++k) sum += g[k] * v[k];
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) {
      put(a.partial + (i * a.mixed + position) * a.warps + number / 32, sum);
    }
  }
  if (!exists || a.grad_x == nullptr) return;
  // the sampled channels reach x through the candidates, not through this operator
  const float zero[N] = {};
  PCDARTS_UNROLLED for (int k = 0; k < 4; ++k) {
    if (k >= a.stride * a.stride) continue;
    put_some(to + k * size + at.column, at.count, a.wide, zero);
  }
}

// The gradient of a weight: a warp adds up its row of partial sums.
static __global__ void __launch_bounds__(32)
    merge_weight_sums(const float* partial, int64_t length, float* to) {
  const double sum = sum_row(partial + blockIdx.x * length, length);
  if (threadIdx.x == 0) put(to + blockIdx.x, static_cast<float>(sum));
}

struct MixScratch {
  int *source, *destination;
  float* partial;
};
int64_t mix_blocks(const PartialMix& p) {
  // the bypass at stride 2 is cut row by row, which can take more packs
  const BypassPlane plane =
      bypass_plane(p.height, p.width, static_cast<int>(p.stride), wide_of(p.dtype));
  return ceil_div(p.batch * plane.packs, kMixThreads);
}
MixScratch lay_out(const PartialMix& p, Pieces& pieces) {
  MixScratch s = {};
  s.source = take<int>(pieces, p.channels), s.destination = take<int>(pieces, p.channels);
  s.partial = take<float>(pieces, p.outputs * p.mixed * mix_blocks(p) * (kMixThreads / 32));
  return s;
}

bool is_wide_planes(const Planes& planes, int pack) {
  return planes.sample_stride % pack == 0 && planes.channel_stride % pack == 0;
}
Mix mix_of(const PartialMix& p, const Planes* outputs, const float* weights, const Planes& x,
           const MixScratch& scratch) {
  if (p.outputs > kMostOutputs) {
    throw std::runtime_error("partial_mix: the CUDA engine mixes at most 64 outputs");
  }
  Mix a = {};
  a.batch = p.batch, a.channels = p.channels, a.mixed = p.mixed;
  a.height = p.height, a.width = p.width;
  a.stride = static_cast<int>(p.stride), a.outputs = static_cast<int>(p.outputs);
  a.source = scratch.source, a.destination = scratch.destination;
  a.weights = weights, a.x = x;
  const BypassPlane plane = bypass_plane(p.height, p.width, a.stride, wide_of(p.dtype));
  const auto is_packed = [&](const Planes& planes) {
    return is_wide(p.dtype, plane, planes.data) && is_wide_planes(planes, wide_of(p.dtype));
  };
  a.wide = is_packed(x);
  for (int i = 0; outputs != nullptr && i < a.outputs; ++i) {
    a.output[i] = outputs[i];
    a.wide = a.wide && is_packed(outputs[i]);
  }
  return a;
}

}  // namespace

size_t cuda_partial_mix_scratch(const PartialMix& p) {
  Pieces pieces = {nullptr, 0};
  lay_out(p, pieces);
  return pieces.used;
}

void cuda_partial_mix_forward(const PartialMix& p, const Planes* outputs, const float* weights,
                              const Planes& x, void* out, void* scratch, void* stream) {
  if (p.batch * p.channels * p.height * p.width == 0) return;
  with_storage_type(p.dtype, [&]<class S>() {
    Pieces pieces = {static_cast<char*>(scratch), 0};
    const MixScratch s = lay_out(p, pieces);
    launch_prepare(p.source, p.destination, p.channels, s.source, s.destination, {}, stream);
    Mix a = mix_of(p, outputs, weights, x, s);
    a.out = out;
    a.wide = a.wide && is_aligned(p.dtype, out, wide_of(p.dtype));
    launch(&mix_kernel<S>, dim3(grid_of(mix_blocks(p)), static_cast<unsigned>(p.channels)),
           kMixThreads, 0, stream, a);
  });
}

void cuda_partial_mix_backward(const PartialMix& p, const Planes& grad, const Planes* outputs,
                               const float* weights, const Planes& x, void* const* grad_outputs,
                               float* grad_weights, void* grad_x, void* scratch, void* stream) {
  with_storage_type(p.dtype, [&]<class S>() {
    Pieces pieces = {static_cast<char*>(scratch), 0};
    const MixScratch s = lay_out(p, pieces);
    Mix a = mix_of(p, grad_weights == nullptr ? nullptr : outputs, weights, x, s);
    a.grad = grad, a.grad_x = grad_x;
    a.warps = mix_blocks(p) * (kMixThreads / 32);
    a.partial = grad_weights == nullptr ? nullptr : s.partial;
    a.wide = a.wide && is_aligned(p.dtype, grad.data, wide_of(p.dtype)) &&
             is_wide_planes(grad, wide_of(p.dtype)) &&
             is_aligned(p.dtype, grad_x, wide_of(p.dtype));
    MixTargets targets = {};
    for (int i = 0; grad_outputs != nullptr && i < a.outputs; ++i) {
      targets.grad_output[i] = grad_outputs[i];
      a.wide = a.wide && is_aligned(p.dtype, grad_outputs[i], wide_of(p.dtype));
    }
    if (p.batch * p.channels * p.height * p.width > 0) {
      launch_prepare(p.source, p.destination, p.channels, s.source, s.destination, {}, stream);
      launch(&mix_backward_kernel<S>,
             dim3(grid_of(mix_blocks(p)), static_cast<unsigned>(p.channels)), kMixThreads, 0,
             stream, a, targets, grad_outputs != nullptr);
    }
    if (grad_weights == nullptr || p.outputs == 0) return;
    launch(&merge_weight_sums, grid_of(p.outputs), 32, 0, stream,
           static_cast<const float*>(s.partial), p.mixed * a.warps, grad_weights);
  });
}

}  // namespace pcdarts
