// pcdarts_fast._direct: fused modules called past torch's dispatcher (common/bind_direct.h).
#include "common/bind_direct.h"

namespace pcdarts {

void define_mixed_cell(pybind11::module_& m);
void define_relu_conv_bn(pybind11::module_& m);

}  // namespace pcdarts

PYBIND11_MODULE(_direct, m) {
  pcdarts::define_mixed_cell(m);
  pcdarts::define_relu_conv_bn(m);
}
