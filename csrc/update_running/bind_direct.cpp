#include "common/bind_direct.h"
#include "update_running/bind_cpu.h"

namespace pcdarts {

void advance(const Running& running, const BatchStatistics& batch, int64_t count, double momentum) {
  update_running(to_engine(running.mean), to_engine(running.variance), to_engine(running.batches),
                 to_engine(batch.mean), to_engine(batch.variance), count, momentum);
  for (const variable_list* tensors : {&running.mean, &running.variance, &running.batches}) {
    for (const at::Tensor& tensor : *tensors) {
      tensor.unsafeGetTensorImpl()->bump_version();  // for graphs that have saved it
    }
  }
}

}  // namespace pcdarts
