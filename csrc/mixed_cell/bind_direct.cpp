#include "common/bind_direct.h"
#include "mixed_cell/bind_cpu.h"

namespace pcdarts {
namespace {

namespace py = pybind11;
using std::vector;

// What does not change from call to call (CellGraph of pcdarts_fast/ops/mixed_cell), and the
// tables.
struct Graph {
  vector<int64_t> primitives;
  int64_t inputs, nodes, k, stride;
  vector<int64_t> source, destination;
  double eps;
  bool store;
};

// Nodes, mean, variance, z.
using Results = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

// Of inputs, weights, alpha and beta.
using Gradients = std::tuple<variable_list, variable_list, at::Tensor, at::Tensor>;

class MixedCellFunction : public torch::autograd::Function<MixedCellFunction> {
 public:
  // tensors: alpha, beta, the inputs, the weights.
  static variable_list forward(AutogradContext* ctx, const Graph& g, bool store,
                               BatchStatistics* batch, at::TensorList tensors) {
    const auto [out, mean, variance, z] = run_engine<Results>(
        "pcdarts_cpu::mixed_cell_fwd", mixed_cell_forward, tensors.slice(2, g.inputs), tensors[0],
        tensors[1], tensors.slice(2 + g.inputs), std::nullopt, std::nullopt, g.primitives, g.nodes,
        g.k, g.stride, g.source, g.destination, g.eps, store);
    *batch = {mean, variance};
    variable_list saved = {mean, variance, z,
                           g.nodes > 1 ? out : at::Tensor()};  // a single node is no source
    saved.insert(saved.end(), tensors.begin(), tensors.end());
    ctx->save_for_backward(std::move(saved));
    ctx->saved_data["numbers"] = vector<int64_t>{g.inputs, g.nodes, g.k, g.stride};
    ctx->saved_data["primitives"] = g.primitives;
    ctx->saved_data["source"] = g.source;
    ctx->saved_data["destination"] = g.destination;
    ctx->saved_data["eps"] = g.eps;
    ctx->set_materialize_grads(false);
    return {out};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    return once_differentiable(
        ctx, grads, /*others=*/3, /*kept=*/4,
        [ctx](const variable_list& saved, at::TensorList tensors, const at::Tensor& grad,
              at::Tensor* to) {
          const auto ints = [ctx](const char* name) { return ctx->saved_data[name].toIntVector(); };
          const vector<int64_t> numbers = ints("numbers");
          const int64_t inputs = numbers[0];
          vector<int64_t> need_inputs;
          for (int64_t i = 0; i < inputs; ++i) need_inputs.push_back(ctx->needs_input_grad(2 + i));
          const bool need_alpha = ctx->needs_input_grad(0), need_beta = ctx->needs_input_grad(1);
          const at::ScalarType type = grad.scalar_type(), wide = accumulation_of(type);
          const at::Tensor grad_out = dense(grad, type);
          const auto [grad_inputs, grad_weights, grad_alpha, grad_beta] = run<Gradients>(
              "pcdarts_cpu::mixed_cell_bwd", mixed_cell_backward, grad_out,
              dense(tensors.slice(2, inputs), type), dense(tensors[0], wide),
              dense(tensors[1], wide), dense(tensors.slice(2 + inputs), wide),
              dense(saved[0], wide), dense(saved[1], wide),
              saved[3].defined() ? dense(saved[3], type) : grad_out, dense(saved[2], wide),
              ints("primitives"), numbers[1], numbers[2], numbers[3], ints("source"),
              ints("destination"), ctx->saved_data["eps"].toDouble(), true, need_inputs,
              any_needs_gradient(*ctx, 2 + inputs, tensors.size()), need_alpha, need_beta);
          if (need_alpha) to[0] = grad_alpha;
          if (need_beta) to[1] = grad_beta;
          to += 2;
          for (int64_t i = 0; i < inputs; ++i, ++to) {
            if (need_inputs[i]) *to = grad_inputs[i];
          }
          std::copy(grad_weights.begin(), grad_weights.end(), to);
        });
  }
};

// A fused graph in training. It holds no objects of Python, which would not see cycles through it.
class DirectGraph {
 public:
  explicit DirectGraph(Graph graph) : graph_(std::move(graph)) {}

  // The nodes [B, nodes * C, H/stride, W/stride]; nothing, and nothing done, where this is no call
  // for the direct way. Without beta there is one edge and alpha is [P]. The last lists are the
  // modules' own tables of parameters and buffers.
  std::optional<at::Tensor> operator()(const py::list& states, const py::handle alpha,
                                       const py::handle beta, double momentum,
                                       const py::list& convolutions, const py::list& norms) const {
    variable_list tensors;
    Running running;
    const bool alone = beta.is_none();
    bool complete = collect(alpha.ptr(), tensors);
    if (alone) tensors.emplace_back();
    complete = complete && (alone || collect(beta.ptr(), tensors)) && collect(states, tensors) &&
               collect(convolutions, names().weight, tensors) && collect(norms, running);
    if (!complete) return std::nullopt;
    const size_t first_weight = 2 + states.size();
    const py::gil_scoped_release released;
    const auto inputs = at::TensorList(tensors).slice(2, first_weight - 2);
    if (!is_unwatched() || !fits(inputs, tensors[0], tensors[1])) return std::nullopt;
    const at::Tensor& x = inputs[0];
    const at::ScalarType wide = accumulation_of(x.scalar_type());
    if (!are_plain(at::TensorList(tensors).slice(first_weight), wide) || !are_plain(running)) {
      return std::nullopt;
    }
    const int64_t count = x.numel() / x.size(1) / (graph_.stride * graph_.stride);
    if (count == 1) return std::nullopt;
    if (alone) tensors[1] = at::ones({1}, tensors[0].options().requires_grad(false));
    const bool store = graph_.store && at::GradMode::is_enabled() &&
                       std::any_of(tensors.begin(), tensors.end(),
                                   [](const at::Tensor& t) { return t.requires_grad(); });
    BatchStatistics batch;
    const at::Tensor out =
        MixedCellFunction::apply(graph_, store, &batch, at::TensorList(tensors))[0];
    if (!running.mean.empty()) advance(running, batch, count, momentum);
    return out;
  }

 private:
  // Whether the public function (pcdarts_fast/ops/mixed_cell) would find no fault with them.
  bool fits(at::TensorList inputs, const at::Tensor& alpha, const at::Tensor& beta) const {
    const Graph& g = graph_;
    if (static_cast<int64_t>(inputs.size()) != g.inputs || !is_state(inputs[0], g.stride)) {
      return false;
    }
    const at::Tensor& x = inputs[0];
    const at::ScalarType type = x.scalar_type(), wide = accumulation_of(type);
    const int64_t edges = g.inputs * g.nodes + g.nodes * (g.nodes - 1) / 2;
    const int64_t choices = static_cast<int64_t>(g.primitives.size());
    return x.size(1) == static_cast<int64_t>(g.source.size()) &&
           std::all_of(inputs.begin(), inputs.end(),
                       [&](const at::Tensor& other) {
                         return is_plain(other, type) && other.sizes() == x.sizes();
                       }) &&
           is_plain(alpha, wide) &&
           (beta.defined() ? alpha.sizes() == at::IntArrayRef{edges, choices} &&
                                 is_plain(beta, wide) && beta.sizes() == at::IntArrayRef{edges}
                           : alpha.sizes() == at::IntArrayRef{choices} && edges == 1);
  }

  Graph graph_;
};

}  // namespace

void define_mixed_cell(py::module_& m) {
  py::class_<DirectGraph>(m, "MixedCell")
      .def(py::init([](const vector<int64_t>& primitives, int64_t inputs, int64_t nodes, int64_t k,
                       int64_t stride, const vector<int64_t>& source,
                       const vector<int64_t>& destination, double eps, bool store) {
        return DirectGraph({primitives, inputs, nodes, k, stride, source, destination, eps, store});
      }))
      .def("__call__", &DirectGraph::operator());
}

}  // namespace pcdarts
