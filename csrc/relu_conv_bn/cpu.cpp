// Between its two passes the output holds z; after them it serves backward in z's place.
#include "relu_conv_bn/cpu.h"

#include "common/isa.h"
#include "common/stack.h"
#include "relu_conv_bn/bands.h"

namespace pcdarts::PCDARTS_ISA {
namespace {

template <int stride, class S>
void forward_of(const ReluConvBn& p, const ReluConvBnForward& args, const Parallel& parallel) {
  using T = Accumulate<S>;
  const int64_t size = p.height * p.width;
  T *const mean = static_cast<T*>(args.mean), *const variance = static_cast<T*>(args.variance);
  S* const out = static_cast<S*>(args.out);
  const bool measured = takes_statistics(p);
  const int64_t chunks = chunk_count(p.batch);
  Moments* const moments = in_workspace(Workspace::arena, [&](Pieces& pieces) {
    return take<Moments>(pieces, chunks * p.out_channels);
  });

  for_chunks(parallel, p.batch, [&](int64_t chunk, int64_t begin, int64_t end) {
    const Scratch<T> scratch = scratch_of<T>(p, false);
    for (int64_t o = 0; o < p.out_channels; ++o) scratch.statistics[o] = Statistics<T>{};
    const int in = static_cast<int>(p.in_channels);
    const Grid whole = make_grid(p.height, p.width);
    for (int64_t b = begin; b < end; ++b) {
      const S* x = static_cast<const S*>(args.x) + b * in * size * stride * stride;
      S* to = out + b * p.out_channels * size;
      for_bands(p, [&](const Bands& bands) {
        load_bands<stride>(p, bands, x, scratch);
        for (int i = 0; i < bands.count * stride; ++i) {
          const int k = i / stride, half = i % stride;
          const Grid& g = bands.grid[k];
          const Half h = half_of(p, half);
          const Matrix<T> w = {static_cast<const T*>(args.weights[half]), in, 1};
          const T* t = scratch.t + k * scratch.t_band + half * p.in_channels * g.map;
          S* first = to + h.first * size + bands.first_row[k] * p.width;
          T* place = as_map_to_write(g, first, scratch.dz);
          const bool in_place = place != scratch.dz;
          const int64_t apart = in_place ? size : int64_t{g.map};
          pointwise_to_maps(g, t, in, w, static_cast<int>(h.outputs), place, apart);
          for (int64_t o = 0; !in_place && o < h.outputs; ++o) {
            write_map(g, scratch.dz + o * g.map, first + o * size);
          }
        }
      });
      for (int64_t o = 0; measured && o < p.out_channels; ++o) {
        add_map<Wide<T>>(whole, as_map(whole, to + o * size, scratch.map), scratch.statistics[o]);
      }
    }
    for (int64_t o = 0; o < p.out_channels; ++o) {
      moments[chunk * p.out_channels + o] = moments_of(scratch.statistics[o]);
    }
  });

  if (p.plain) return;
  if (measured) {
    merge_chunks(p.batch, moments, p.out_channels);
    merge_processes(p.processes, moments, p.out_channels);
  }
  for (int64_t o = 0; measured && o < p.out_channels; ++o) {
    const Moments& all = moments[o];
    mean[o] = static_cast<T>(all.mean), variance[o] = static_cast<T>(all.square / all.count);
  }
  for_chunks(parallel, p.batch, [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t i = begin * p.out_channels; i < end * p.out_channels; ++i) {
      const int64_t o = i % p.out_channels;
      const Vec<T> m = splat(mean[o]);
      const double rstd = norm_rstd(static_cast<double>(variance[o]), p.eps);
      const Vec<T> scale = splat(static_cast<T>(rstd));
      S* to = out + i * size;
      for_vectors(size, [&](int64_t at, int lanes, int) __attribute__((always_inline)) {
        store_part(to + at, (load_part(to + at, lanes) - m) * scale, lanes);
      });
    }
  });
}

// S0 and S1 of every output channel of this process: the first of sums [chunks, out, 2].
template <class S>
void gradient_sums(const ReluConvBn& p, const ReluConvBnBackward& args, double* sums,
                   const Parallel& parallel) {
  using T = Accumulate<S>;
  const int64_t size = p.height * p.width;
  for_chunks(parallel, p.batch, [&](int64_t chunk, int64_t begin, int64_t end) {
    for (int64_t o = 0; o < p.out_channels; ++o) {
      double s0 = 0, s1 = 0;
      for (int64_t b = begin; b < end; ++b) {
        const int64_t first = (b * p.out_channels + o) * size;
        const S* grad = static_cast<const S*>(args.grad_out) + first;
        const S* out = static_cast<const S*>(args.forward.out) + first;
        Vec<T> a[4], d[4];
        clear(a), clear(d);
        for_vectors(size, [&](int64_t at, int lanes, int chain) __attribute__((always_inline)) {
          const Vec<T> v = load_part(grad + at, lanes);
          a[chain] += v, d[chain] += v * load_part(out + at, lanes);
        });
        s0 += static_cast<double>(sum_lanes<T>((a[0] + a[1]) + (a[2] + a[3])));
        s1 += static_cast<double>(sum_lanes<T>((d[0] + d[1]) + (d[2] + d[3])));
      }
      sums[(chunk * p.out_channels + o) * 2] = s0;
      sums[(chunk * p.out_channels + o) * 2 + 1] = s1;
    }
  });
  merge_chunks(p.batch, sums, p.out_channels * 2);
}

template <int stride, class S>
void backward_of(const ReluConvBn& p, const ReluConvBnBackward& args, const Parallel& parallel) {
  using T = Accumulate<S>;
  const int64_t size = p.height * p.width, elements = p.out_channels * p.in_channels;
  const int64_t chunks = chunk_count(p.batch);
  const bool need_weights = args.grad_weights != nullptr;
  struct Arena {
    double* sums;
    NormGradient* norm;
    T* dw;
  };
  const Arena arena = in_workspace(Workspace::arena, [&](Pieces& pieces) {
    Arena a = {};
    a.sums = take<double>(pieces, chunks * p.out_channels * 2);
    a.norm = take<NormGradient>(pieces, p.out_channels);
    a.dw = take<T>(pieces, need_weights ? chunks * elements : 0);
    return a;
  });

  const bool measured = takes_statistics(p);
  if (measured) {
    gradient_sums<S>(p, args, arena.sums, parallel);
    add_processes(p.processes, arena.sums, p.out_channels * 2);
  }
  const double count = static_cast<double>(images_of(p.processes, p.batch)) * size;
  for (int64_t o = 0; o < p.out_channels; ++o) {
    arena.norm[o] = {1, 0, 0};
    if (p.plain) continue;
    const double s0 = measured ? arena.sums[o * 2] : 0, s1 = measured ? arena.sums[o * 2 + 1] : 0;
    const double variance = static_cast<double>(static_cast<const T*>(args.forward.variance)[o]);
    arena.norm[o] = norm_gradient(norm_rstd(variance, p.eps), 0, 1, s0, s1, count, p.training);
  }

  for_chunks(parallel, p.batch, [&](int64_t chunk, int64_t begin, int64_t end) {
    const Scratch<T> scratch = scratch_of<T>(p, true);
    const int in = static_cast<int>(p.in_channels);
    for (int64_t i = 0; need_weights && i < elements; ++i) scratch.dw[i] = Vec<T>{};
    for (int64_t b = begin; b < end; ++b) {
      const int64_t x_first = b * in * size * stride * stride, first = b * p.out_channels * size;
      const S* x = static_cast<const S*>(args.forward.x) + x_first;
      const S* out = static_cast<const S*>(args.forward.out) + first;
      const S* grad = static_cast<const S*>(args.grad_out) + first;
      for_bands(p, [&](const Bands& bands) {
        load_bands<stride>(p, bands, x, scratch);
        load_dz(p, bands, arena.norm, grad, out, scratch);
        for (int i = 0; args.grad_x != nullptr && i < bands.count * stride; ++i) {
          const int k = i / stride, half = i % stride;
          const Grid& g = bands.grid[k];
          const Half h = half_of(p, half);
          const int outputs = static_cast<int>(h.outputs);
          const T* dz = scratch.dz + k * scratch.dz_band + h.first * g.map;
          const int64_t maps = k * scratch.t_band + half * p.in_channels * g.map;
          const Matrix<T> w = {static_cast<const T*>(args.forward.weights[half]), 1, in};
          pointwise_to_maps(g, dz, outputs, w, in, scratch.dt + maps, g.map);
        }
        for (int half = 0; need_weights && half < stride; ++half) {
          const Half h = half_of(p, half);
          for_equal_bands(bands, [&](int k, int count) {
            const Grid& g = bands.grid[k];
            const T* dz = scratch.dz + k * scratch.dz_band + h.first * g.map;
            const T* t = scratch.t + k * scratch.t_band + half * p.in_channels * g.map;
            pointwise_weight_gradient(
                Stretches{count, g.vectors, g.map, scratch.dz_band, scratch.t_band}, dz,
                static_cast<int>(h.outputs), t, in, scratch.dw + h.first * in);
          });
        }
        if (args.grad_x != nullptr) {
          store_bands<stride>(p, bands, scratch, static_cast<S*>(args.grad_x) + x_first);
        }
      });
    }
    if (need_weights) reduce_lanes(scratch.dw, elements, arena.dw + chunk * elements);
  });

  if (!need_weights) return;
  merge_chunks(p.batch, arena.dw, elements);
  for (int half = 0; half < stride; ++half) {
    const Half h = half_of(p, half);
    const T* from = arena.dw + h.first * p.in_channels;
    T* to = static_cast<T*>(args.grad_weights[half]);
    for (int64_t i = 0; i < h.outputs * p.in_channels; ++i) to[i] = from[i];
  }
}

// A 1x1 convolution knows no rows: pixels whose own do not fill vectors are taken as rows of 8.
ReluConvBn in_full_rows(ReluConvBn p) {
  const int64_t size = p.height * p.width;
  if (p.width % kLanes != 0 && size % kLanes == 0) {
    p.height = size / kLanes, p.width = kLanes;
  }
  return p;
}

// Maps of fewer pixels than this are stacked instead, a pixel's 8 lanes as a row.
constexpr int64_t kMostPixels = 64;

bool in_stacks(const ReluConvBn& p) {
  const int64_t size = p.height * p.width;
  return p.dtype == DType::float32 && p.stride == 1 && p.width % kLanes != 0 &&
         size < kMostPixels && stackable(p.batch);
}

ReluConvBn stacked(ReluConvBn p) {
  p.batch /= kLanes, p.height *= p.width, p.width = kLanes;
  return p;
}

void forward_in_stacks(const ReluConvBn& p, const ReluConvBnForward& args,
                       const Parallel& parallel) {
  const ReluConvBn q = stacked(p);
  const int64_t size = p.height * p.width;
  StackedTensor tensors[] = {{p.in_channels * size, args.x, nullptr, nullptr},
                             {p.out_channels * size, nullptr, args.out, nullptr}};
  through_stacks(parallel, q.batch, tensors, 2, [&] {
    ReluConvBnForward own = args;
    own.x = tensors[0].stack, own.out = tensors[1].stack;
    forward_of<1, float>(q, own, parallel);
  });
}

void backward_in_stacks(const ReluConvBn& p, const ReluConvBnBackward& args,
                        const Parallel& parallel) {
  const ReluConvBn q = stacked(p);
  const int64_t size = p.height * p.width, in = p.in_channels * size, out = p.out_channels * size;
  const void* const normalised = takes_statistics(p) ? args.forward.out : nullptr;
  StackedTensor tensors[] = {{in, args.forward.x, nullptr, nullptr},
                             {out, normalised, nullptr, nullptr},
                             {out, args.grad_out, nullptr, nullptr},
                             {args.grad_x == nullptr ? 0 : in, nullptr, args.grad_x, nullptr}};
  through_stacks(parallel, q.batch, tensors, 4, [&] {
    ReluConvBnBackward own = args;
    own.forward.x = tensors[0].stack, own.forward.out = tensors[1].stack;
    own.grad_out = tensors[2].stack, own.grad_x = tensors[3].stack;
    backward_of<1, float>(q, own, parallel);
  });
}

void forward(const ReluConvBn& p, const ReluConvBnForward& args, const Parallel& parallel) {
  if (in_stacks(p)) return forward_in_stacks(p, args, parallel);
  with_element_type(p.dtype, [&]<class S>() {
    p.stride == 1 ? forward_of<1, S>(in_full_rows(p), args, parallel)
                  : forward_of<2, S>(p, args, parallel);
  });
}

void backward(const ReluConvBn& p, const ReluConvBnBackward& args, const Parallel& parallel) {
  if (in_stacks(p)) return backward_in_stacks(p, args, parallel);
  with_element_type(p.dtype, [&]<class S>() {
    p.stride == 1 ? backward_of<1, S>(in_full_rows(p), args, parallel)
                  : backward_of<2, S>(p, args, parallel);
  });
}

}  // namespace
}  // namespace pcdarts::PCDARTS_ISA

PCDARTS_KERNELS(ReluConvBnKernels, relu_conv_bn_kernels, forward, backward)
