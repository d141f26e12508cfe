// The bypass: channels that pass unchanged, or through a 2x2 maximum at stride 2. They are most of
// a cell's bytes, so they stream in packs of N elements, 16 bytes.
#pragma once
#include "common/memory.cuh"
#include "common/window.h"

namespace pcdarts {

// An output plane as packs. At stride 1 its rows follow one another: it is one long row.
struct BypassPlane {
  int64_t width, across, packs;
};
PCDARTS_HD BypassPlane bypass_plane(int64_t height, int64_t width, int stride, int pack) {
  const int64_t columns = stride == 1 ? height * width : width;
  const int64_t across = ceil_div(columns, pack);
  return {columns, across, stride == 1 ? across : across * height};
}

struct PackPlace {
  int64_t sample, row, column;
  int count;  // elements that exist
};
template <int N>
__device__ __forceinline__ PackPlace pack_place(const BypassPlane& plane, int64_t number) {
  const int64_t sample = number / plane.packs, in_plane = number % plane.packs;
  const int64_t row = in_plane / plane.across, column = in_plane % plane.across * N;
  const int64_t left = plane.width - column;
  return {sample, row, column, static_cast<int>(left < N ? left : N)};
}
// Whether whole packs may be read, from planes that start at aligned addresses.
inline bool is_wide(DType dtype, const BypassPlane& plane, const void* data) {
  return plane.width % wide_of(dtype) == 0 && is_aligned(dtype, data, wide_of(dtype));
}

// The rows 2 * row and 2 * row + 1 of a plane [2H, 2 * width] over the pixels of a pack.
template <int N, class S>
__device__ __forceinline__ void get_window_rows(const S* x, const BypassPlane& plane,
                                                const PackPlace& at, bool wide,
                                                float (&rows)[2][2 * N]) {
  const S* const first = x + 4 * at.row * plane.width + 2 * at.column;
  PCDARTS_UNROLLED for (int r = 0; r < 2; ++r) {
    PCDARTS_UNROLLED for (int half = 0; half < 2; ++half) {
      float v[N];
      get_some(first + 2 * r * plane.width + half * N, 2 * at.count - half * N, wide, v);
      PCDARTS_UNROLLED for (int i = 0; i < N; ++i) rows[r][half * N + i] = v[i];
    }
  }
}

// A pack of pool(x), x being one channel of one sample.
template <int N, class S>
__device__ __forceinline__ void get_bypass(const S* x, int stride, const BypassPlane& plane,
                                           const PackPlace& at, bool wide, float (&v)[N]) {
  if (stride == 1) {
    get_some(x + at.row * plane.width + at.column, at.count, wide, v);
    return;
  }
  float rows[2][2 * N];
  get_window_rows<N>(x, plane, at, wide, rows);
  PCDARTS_UNROLLED for (int i = 0; i < N; ++i) {
    v[i] =
        window_winner(rows[0][2 * i], rows[0][2 * i + 1], rows[1][2 * i], rows[1][2 * i + 1]).value;
  }
}

// The gradient of pool(x) written to the gradient of x: at stride 2 to the window's maximum.
template <int N, class S>
__device__ __forceinline__ void put_bypass_gradient(const S* x, int stride,
                                                    const BypassPlane& plane, const PackPlace& at,
                                                    bool wide, const float (&gradient)[N],
                                                    S* grad_x) {
  if (stride == 1) {
    put_some(grad_x + at.row * plane.width + at.column, at.count, wide, gradient);
    return;
  }
  float rows[2][2 * N];
  get_window_rows<N>(x, plane, at, wide, rows);
  PCDARTS_UNROLLED for (int i = 0; i < N; ++i) {
    const float index =
        window_winner(rows[0][2 * i], rows[0][2 * i + 1], rows[1][2 * i], rows[1][2 * i + 1]).index;
    PCDARTS_UNROLLED for (int k = 0; k < 4; ++k) {
      rows[k / 2][2 * i + k % 2] = index == static_cast<float>(k) ? gradient[i] : 0;
    }
  }
  S* const first = grad_x + 4 * at.row * plane.width + 2 * at.column;
  PCDARTS_UNROLLED for (int r = 0; r < 2; ++r) {
    PCDARTS_UNROLLED for (int half = 0; half < 2; ++half) {
      float v[N];
      PCDARTS_UNROLLED for (int i = 0; i < N; ++i) v[i] = rows[r][half * N + i];
      put_some(first + 2 * r * plane.width + half * N, 2 * at.count - half * N, wide, v);
    }
  }
}

}  // namespace pcdarts
