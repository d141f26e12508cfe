// The formulas of batch-norm without scale and shift: statistics and gradient.
#pragma once
#include "common/host_device.h"

namespace pcdarts {

// Mean and sum of squared deviations of `count` values; merge is Chan's rule, in a fixed order.
struct Moments {
  double count, mean, square;
};
PCDARTS_HD Moments merge(const Moments& a, const Moments& b) {
  if (a.count == 0) return b;
  const double count = a.count + b.count, delta = b.mean - a.mean;
  return {count, a.mean + delta * b.count / count,
          a.square + b.square + delta * delta * a.count * b.count / count};
}

// dz = g * upstream + z * own + constant: the backward of out = weight * (z - mean) * rstd, given
// s0 = sum upstream and s1 = sum upstream * (z - mean) * rstd over `count` values.
struct NormGradient {
  double upstream, own, constant;
};
PCDARTS_HD NormGradient norm_gradient(double weight, double mean, double rstd, double s0, double s1,
                                      double count, bool training) {
  const double scale = weight * rstd;
  if (!training) return {scale, 0, 0};
  const double own = -scale * rstd * s1 / count;
  return {scale, own, -scale * s0 / count - own * mean};
}

// 1 / standard deviation. Forward and backward both take the variance as it is stored.
PCDARTS_HD double norm_rstd(double variance, double eps) {
  return 1 / __builtin_sqrt(variance + eps);
}

}  // namespace pcdarts
