// Between its two passes the output holds z; after them it serves backward in z's place.
#include "relu_conv_bn/cuda.h"

#include "common/synchronize.cuh"
#include "relu_conv_bn/backward.cuh"
#include "relu_conv_bn/forward.cuh"

namespace pcdarts {
namespace {

ConvProblem problem_of(const ReluConvBn& p, const ReluConvBnForward& args,
                       const void* also_packed) {
  ConvProblem c = {};
  c.dtype = p.dtype, c.batch = p.batch, c.in = p.in_channels, c.out = p.out_channels;
  c.height = p.height, c.width = p.width, c.even_outputs = p.even_outputs;
  c.stride = p.stride, c.linear = p.linear;
  c.packed = p.width % 4 == 0;
  for (const void* data : {args.x, static_cast<const void*>(args.out), also_packed}) {
    c.packed = c.packed && is_aligned(p.dtype, data, 4);
  }
  for (int half = 0; half < p.stride; ++half) {
    c.weights[half] = static_cast<const float*>(args.weights[half]);
  }
  c.x = args.x, c.out_data = args.out;
  return c;
}

int64_t largest_half(const ReluConvBn& p) {
  const int64_t odd = p.out_channels - p.even_outputs;
  return p.even_outputs > odd ? p.even_outputs : odd;
}
constexpr size_t kChunkBytes = kConvChunk * kConvChannels * sizeof(float);

struct ForwardScratch {
  WarpMoments* partial;
  float* rstd;
  Pack<float, 2>* exchange;
};
int64_t conv_blocks(const ReluConvBn& p) { return ceil_div(conv_quads(p), kConvThreads); }
int64_t forward_warps(const ReluConvBn& p) { return conv_blocks(p) * (kConvThreads / 32); }
ForwardScratch lay_out_forward(const ReluConvBn& p, Pieces& pieces) {
  const bool measured = takes_statistics(p);
  ForwardScratch s = {};
  s.partial = take<WarpMoments>(pieces, measured ? forward_warps(p) * p.out_channels : 0);
  s.rstd = take<float>(pieces, p.out_channels);
  s.exchange = take<Pack<float, 2>>(pieces, exchange_size(p.processes, p.out_channels));
  return s;
}

void forward_of(const ReluConvBn& p, const ReluConvBnForward& args, const ForwardScratch& scratch,
                void* stream) {
  const ConvProblem c = problem_of(p, args, args.out);
  const bool measured = takes_statistics(p);
  const dim3 grid(grid_of(conv_blocks(p)),
                  static_cast<unsigned>(ceil_div(largest_half(p), kConvChannels)),
                  static_cast<unsigned>(p.stride));
  launch(&conv_forward_kernel, grid, kConvThreads, kChunkBytes, stream, c, args.out,
         measured ? scratch.partial : nullptr);
  if (p.plain) return;
  if (measured) {
    MergeMoments m = {};
    m.partial = scratch.partial, m.warps = forward_warps(p);
    m.slots = 1, m.channels = p.out_channels, m.eps = p.eps;
    m.mean = static_cast<float*>(args.mean), m.variance = static_cast<float*>(args.variance);
    m.rstd = scratch.rstd;
    m.edges = 1, m.count = 1, m.shared[0] = -1;
    launch_merge(m, stream);
    synchronize(p.processes, merged_by(m), scratch.exchange, stream);
  } else {
    const FillRstd r = {static_cast<const float*>(args.variance), scratch.rstd, p.out_channels,
                        p.eps};
    launch(&conv_rstd, grid_of(ceil_div(r.size, kNormaliseThreads)), kNormaliseThreads, 0, stream,
           r);
  }
  Normalise n = {};
  n.out = args.out, n.plane = bypass_plane(p.height, p.width, 1, wide_of(p.dtype));
  n.planes = p.batch * p.out_channels, n.channels = p.out_channels;
  n.wide = is_wide(p.dtype, n.plane, n.out);
  n.mean = static_cast<const float*>(args.mean), n.rstd = scratch.rstd;
  const unsigned blocks = grid_of(ceil_div(n.planes * n.plane.packs, kNormaliseThreads));
  with_storage_type(p.dtype, [&]<class S>() {
    launch(&normalise_kernel<S>, blocks, kNormaliseThreads, 0, stream, n);
  });
}

constexpr int64_t kWeightBlocks = 64;  // at most, a part of the weights
int64_t weight_span(const ReluConvBn& p) {
  return ceil_div(conv_quads(p), kOuterLanes * kWeightBlocks);
}
int64_t weight_blocks(const ReluConvBn& p) {
  return ceil_div(conv_quads(p), kOuterLanes * weight_span(p));
}

struct BackwardScratch {
  float* partial;
  Pack<float, 4>* norm;
  Pack<float, 2>* exchange;
  float *even, *odd;  // partial gradients of both weight tensors
};
int64_t sum_warps(const ReluConvBn& p) {
  const BypassPlane plane = bypass_plane(p.height, p.width, 1, wide_of(p.dtype));
  return ceil_div(p.batch * plane.packs, kConvSumThreads) * (kConvSumThreads / 32);
}
BackwardScratch lay_out_backward(const ReluConvBn& p, bool need_weights, Pieces& pieces) {
  const int64_t rows = takes_statistics(p) ? 2 * p.out_channels : 0;
  const int64_t blocks = need_weights ? weight_blocks(p) : 0;
  BackwardScratch s = {};
  s.partial = take<float>(pieces, rows * sum_warps(p));
  s.norm = take<Pack<float, 4>>(pieces, p.out_channels);
  s.exchange = take<Pack<float, 2>>(pieces, exchange_size(p.processes, p.out_channels));
  s.even = take<float>(pieces, blocks * p.even_outputs * p.in_channels);
  s.odd = take<float>(pieces, blocks * (p.out_channels - p.even_outputs) * p.in_channels);
  return s;
}

void sum_gradients(const ReluConvBn& p, const ReluConvBnBackward& args,
                   const BackwardScratch& scratch, void* stream) {
  ConvSums s = {};
  s.grad = args.grad_out, s.out = args.forward.out;
  s.plane = bypass_plane(p.height, p.width, 1, wide_of(p.dtype));
  s.batch = p.batch, s.channels = p.out_channels, s.warps = sum_warps(p);
  s.wide = is_wide(p.dtype, s.plane, s.grad) && is_wide(p.dtype, s.plane, s.out);
  s.partial = scratch.partial;
  const dim3 grid(grid_of(s.warps / (kConvSumThreads / 32)), static_cast<unsigned>(p.out_channels));
  with_storage_type(p.dtype, [&]<class S>() {
    launch(&conv_sums_kernel<S>, grid, kConvSumThreads, 0, stream, s);
  });
}

void norm_of(const ReluConvBn& p, const ReluConvBnBackward& args, const BackwardScratch& scratch,
             void* stream) {
  if (p.training) sum_gradients(p, args, scratch, stream);
  ConvNorm n = {};
  n.partial = scratch.partial, n.warps = sum_warps(p);
  n.variance = static_cast<const float*>(args.forward.variance);
  n.channels = p.out_channels, n.eps = p.eps, n.training = p.training;
  n.count = static_cast<double>(p.batch) * static_cast<double>(p.height * p.width);
  n.norm = scratch.norm;
  launch(&conv_norm, grid_of(p.out_channels), 64, 2 * sizeof(double), stream, n);
  if (!p.training) return;
  Synchronized a = in_norms(scratch.norm, p.out_channels);
  a.slots = 1;
  synchronize(p.processes, a, scratch.exchange, stream);
}

void backward_of(const ReluConvBn& p, const ReluConvBnBackward& args,
                 const BackwardScratch& scratch, void* stream) {
  ConvProblem c = problem_of(p, args.forward, args.grad_out);
  c.packed = c.packed && is_aligned(p.dtype, args.grad_x, 4);
  c.grad_out = args.grad_out;
  if (!p.plain) {
    norm_of(p, args, scratch, stream);
    c.norm = scratch.norm;
  }
  if (args.grad_x != nullptr) {
    const dim3 grid(grid_of(conv_blocks(p)),
                    static_cast<unsigned>(ceil_div(p.in_channels, kConvChannels)),
                    static_cast<unsigned>(p.stride));
    launch(&conv_input_kernel, grid, kConvThreads, kChunkBytes, stream, c, args.grad_x);
  }
  if (args.grad_weights == nullptr) return;
  const int64_t parts =
      ceil_div(largest_half(p), kConvChannels) * ceil_div(p.in_channels, kConvChannels);
  const dim3 grid(grid_of(weight_blocks(p)), static_cast<unsigned>(parts),
                  static_cast<unsigned>(p.stride));
  constexpr int floats =
      kConvChannels * (2 * kOuterPitch + OuterShape<kConvChannels>::splits * kConvChannels);
  launch(&conv_weight_kernel, grid, kOuterLanes, floats * sizeof(float), stream, c, weight_span(p),
         scratch.even, scratch.odd);
  std::vector<MergedWeight> merged;
  for (int half = 0; half < p.stride; ++half) {
    merged.push_back({half == 0 ? scratch.even : scratch.odd,
                      static_cast<float*>(args.grad_weights[half]),
                      static_cast<int>(conv_half(c, half).outputs * p.in_channels),
                      static_cast<int>(weight_blocks(p))});
  }
  launch_merge_weights(merged, stream);
}

}  // namespace

size_t cuda_relu_conv_bn_forward_scratch(const ReluConvBn& p) {
  Pieces pieces = {nullptr, 0};
  lay_out_forward(p, pieces);
  return pieces.used;
}

void cuda_relu_conv_bn_forward(const ReluConvBn& p, const ReluConvBnForward& args, void* scratch,
                               void* stream) {
  Pieces pieces = {static_cast<char*>(scratch), 0};
  const ForwardScratch s = lay_out_forward(p, pieces);
  forward_of(p, args, s, stream);
}

size_t cuda_relu_conv_bn_backward_scratch(const ReluConvBn& p, bool need_weights) {
  Pieces pieces = {nullptr, 0};
  lay_out_backward(p, need_weights, pieces);
  return pieces.used;
}

void cuda_relu_conv_bn_backward(const ReluConvBn& p, const ReluConvBnBackward& args, void* scratch,
                                void* stream) {
  Pieces pieces = {static_cast<char*>(scratch), 0};
  const BackwardScratch s = lay_out_backward(p, args.grad_weights != nullptr, pieces);
  backward_of(p, args, s, stream);
}

}  // namespace pcdarts
