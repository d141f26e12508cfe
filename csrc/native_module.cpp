// pcdarts_fast._native: what this build is, what this machine reaches, and the index maths of
// csrc/*/math.h, so that property tests in Python hold the very header that the kernels use. Knows
// no torch.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <utility>
#include <vector>

#include "common/isa.h"
#include "common/workspace.h"
#include "partial_mix/math.h"
#include "yardsticks.h"

namespace py = pybind11;
using pcdarts::Isa;

namespace {

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512}) {
    if (pcdarts::has_isa(isa)) names.push_back(pcdarts::isa_name(isa));
  }
  return names;
}

py::dict build_info() {
  py::dict info;
  info["version"] = PCDARTS_VERSION;
  info["compiler"] = PCDARTS_COMPILER;
  info["torch"] = PCDARTS_TORCH_VERSION;
  return info;
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  m.def("build_info", &build_info, "version, compiler and torch version that this was built with");
  m.def("available_isas", &available_isas, "instruction sets that this build and machine have");
  m.def(
      "active_isa", [] { return std::string(pcdarts::isa_name(pcdarts::active_isa())); },
      "the one in use; ValueError where PCDARTS_ISA names one that is not available");

  // without Python's lock, so that a thread a core can measure at the same time
  m.def("peak_flops", &pcdarts::peak_flops, py::arg("seconds"),
        py::call_guard<py::gil_scoped_release>(),
        "float operations a second of one thread's multiply-adds in registers, two each");
  m.def("copy_bandwidth", &pcdarts::copy_bandwidth, py::arg("seconds"),
        py::call_guard<py::gil_scoped_release>(),
        "bytes read and written a second by one thread's copy between buffers beyond any cache");

  m.def(
      "working_memory",
      [](size_t bytes) {
        const void* const memory = pcdarts::workspace(pcdarts::Workspace::scratch, bytes);
        return py::bytes(static_cast<const char*>(memory), bytes);
      },
      py::arg("bytes"), "what a kernel's working memory holds before it is written");

  py::module_ partial_mix = m.def_submodule("partial_mix", "csrc/partial_mix/math.h");
  partial_mix.def(
      "plane_index",
      [](int64_t unit, int64_t channels) {
        const pcdarts::PlaneIndex at = pcdarts::plane_index(unit, channels);
        return std::pair(at.sample, at.q);
      },
      "(sample, q) of a unit of work");
  partial_mix.def(
      "window_winner",
      [](double v0, double v1, double v2, double v3) {
        const auto winner = pcdarts::window_winner(v0, v1, v2, v3);
        return std::pair(winner.value, static_cast<int>(winner.index));
      },
      "(value, index) of the element of a 2x2 window that max pooling takes");
}
