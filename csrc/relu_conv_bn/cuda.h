#pragma once
#include <cstddef>

#include "relu_conv_bn/cpu.h"

namespace pcdarts {

// The CUDA engine. Arguments as for the CPU engine, in device memory; dtype float32, bfloat16 or
// float16. `scratch` holds as many bytes as asked for, 256-byte aligned. Nothing waits for the
// device. Where there are other processes, all exchange statistics by `processes.gather`.
size_t cuda_relu_conv_bn_forward_scratch(const ReluConvBn&);
void cuda_relu_conv_bn_forward(const ReluConvBn&, const ReluConvBnForward&, void* scratch,
                               void* stream);

size_t cuda_relu_conv_bn_backward_scratch(const ReluConvBn&, bool need_weights);
void cuda_relu_conv_bn_backward(const ReluConvBn&, const ReluConvBnBackward&, void* scratch,
                                void* stream);

}  // namespace pcdarts
