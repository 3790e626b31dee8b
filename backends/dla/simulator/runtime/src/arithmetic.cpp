#include <cstring>
#include <stdexcept>

#include "graph.h"

namespace stand_in {
namespace {

template <typename Number>
double weighed_as(const void* data, size_t count) {
  const auto* values = static_cast<const Number*>(data);
  double sum = 0;
  for (size_t i = 0; i < count; ++i) sum += static_cast<double>(values[i]) * static_cast<double>(1 + i % 7);
  return sum / static_cast<double>(count);
}

double weighed(const Tensor& tensor, const void* data) {
  switch (tensor.type) {
    case 1: return weighed_as<float>(data, tensor.count);
    case 2: return weighed_as<int32_t>(data, tensor.count);
    case 4: return weighed_as<int64_t>(data, tensor.count);
    case 9: return weighed_as<int8_t>(data, tensor.count);
    default: throw std::runtime_error("arithmetic takes float32, int32, int64 and int8 alone");
  }
}

class ArithmeticGraph : public Graph {
 public:
  explicit ArithmeticGraph(const Container& container) : inputs_(container.inputs()), outputs_(container.outputs()) {
    for (const Tensor& tensor : outputs_) {
      if (!tensor.is_float32()) throw std::runtime_error("arithmetic gives float32 alone");
    }
  }

  int run(const std::vector<void*>& inputs, const std::vector<void*>& outputs) override {
    double offset = 0;
    for (size_t k = 0; k < inputs.size(); ++k) offset += weighed(inputs_[k], inputs[k]);
    offset /= 8 * static_cast<double>(inputs.size());
    for (size_t o = 0; o < outputs.size(); ++o) {
      auto* values = static_cast<float*>(outputs[o]);
      for (size_t i = 0; i < outputs_[o].count; ++i) {
        values[i] = static_cast<float>((static_cast<double>((i + o) % 97) - 48) / 16 + offset);
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
