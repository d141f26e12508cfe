// How the bind files of mixed_cell read the operator's arguments.
#pragma once
#include "common/bind.h"
#include "mixed_cell/math.h"

namespace pcdarts {

// By position in PRIMITIVES (pcdarts_fast/space/primitives.py).
inline constexpr Primitive kPrimitives[] = {
    {Kind::none, 0},     {Kind::max_pool, 3}, {Kind::avg_pool, 3}, {Kind::skip, 0},
    {Kind::sep_conv, 3}, {Kind::sep_conv, 5}, {Kind::dil_conv, 3}, {Kind::dil_conv, 5}};

// The public function (pcdarts_fast/ops/mixed_cell) has checked the shapes.
inline MixedCell problem(DType dtype, const std::vector<Tensor>& inputs,
                         const std::vector<Tensor>& weights, const std::vector<int64_t>& primitives,
                         int64_t nodes, int64_t k, int64_t stride,
                         const std::vector<int64_t>& source,
                         const std::vector<int64_t>& destination, double eps, bool training) {
  const Tensor& x = inputs[0];
  MixedCell p = {};
  p.dtype = dtype;
  p.batch = x.size(0), p.channels = x.size(1), p.sampled = p.channels / k;
  p.height = x.size(2) / stride, p.width = x.size(3) / stride, p.stride = static_cast<int>(stride);
  p.inputs = static_cast<int>(inputs.size()), p.nodes = static_cast<int>(nodes);
  STD_TORCH_CHECK(states_of(p) <= kMaxStates && primitives.size() <= kMaxPrimitives,
                  "mixed_cell: at most ", kMaxStates, " states and ", kMaxPrimitives,
                  " primitives");
  for (const int64_t code : primitives) p.primitive[p.primitives++] = kPrimitives[code];
  p.source = source.data(), p.destination = destination.data();
  p.training = training, p.eps = eps;
  const int64_t count = static_cast<int64_t>(weights.size());
  const int64_t wanted = edge_offsets(p, edge_count(p)).weights;
  STD_TORCH_CHECK(count == wanted, "mixed_cell: got ", count, " weights, wanted ", wanted);
  return p;
}

}  // namespace pcdarts
