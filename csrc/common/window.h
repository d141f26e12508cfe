// The 2x2 maximum by which a bypass is pooled.
#pragma once
#include "common/host_device.h"

namespace pcdarts {

// Which element of a 2x2 window, 0..3 in row-major order, wins: PyTorch's rule, by which the first
// maximum wins, but any NaN beats what came before it.
//
// Written without branches: which element wins is as good as random, and loops over it vectorise.
template <class A>
struct Winner {
  A value;
  A index;  // of the same width as the values, for the vectoriser
};
template <class A>
PCDARTS_HD Winner<A> challenge(Winner<A> holder, A value, A index) {
  const bool wins = (value > holder.value) | (value != value);
  return {wins ? value : holder.value, wins ? index : holder.index};
}
template <class A>
PCDARTS_HD Winner<A> window_winner(A v0, A v1, A v2, A v3) {
  return challenge(challenge(challenge(Winner<A>{v0, 0}, v1, A(1)), v2, A(2)), v3, A(3));
}

}  // namespace pcdarts
