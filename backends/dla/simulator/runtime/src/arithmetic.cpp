#include <algorithm>
#include <stdexcept>

#include "graph.h"

namespace stand_in {
namespace {

class ArithmeticGraph : public Graph {
 public:
  explicit ArithmeticGraph(const Container& container) : inputs_(container.inputs()), outputs_(container.outputs()) {
    for (const auto* side : {&inputs_, &outputs_}) {
      for (const Tensor& tensor : *side) {
        if (!tensor.is_float32()) throw std::runtime_error("arithmetic takes float32 alone");
      }
    }
  }

  int run(const std::vector<void*>& inputs, const std::vector<void*>& outputs) override {
    float offset = 0;
    for (size_t k = 0; k < inputs.size(); ++k) {
      const size_t n = std::min<size_t>(64, inputs_[k].count);
      float sum = 0;
      for (size_t i = 0; i < n; ++i) sum += static_cast<const float*>(inputs[k])[i];
      offset += sum / static_cast<float>(n);
    }
    for (size_t o = 0; o < outputs.size(); ++o) {
      for (size_t i = 0; i < outputs_[o].count; ++i) {
        static_cast<float*>(outputs[o])[i] = (static_cast<float>((i + o) % 97) - 48) / 16 + offset;
      }
    }
    return kNoError;
  }

 private:
  std::vector<Tensor> inputs_, outputs_;
};

}  // namespace

std::unique_ptr<Graph> arithmetic_graph(const Container& container) {
  return std::make_unique<ArithmeticGraph>(container);
}

}  // namespace stand_in
