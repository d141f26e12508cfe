// How a kernel sees a tensor [B, C, H, W]: every plane [H, W] is contiguous, the rest may be
// strided (a slice of the channels is such a view). Strides are in elements.
#pragma once
#include <cstdint>

#include "common/host_device.h"

namespace pcdarts {

struct Planes {
  const void* data;
  int64_t sample_stride, channel_stride;
};

template <class T>
PCDARTS_HD const T* plane(const Planes& planes, int64_t sample, int64_t channel) {
  return static_cast<const T*>(planes.data) + sample * planes.sample_stride +
         channel * planes.channel_stride;
}

}  // namespace pcdarts
