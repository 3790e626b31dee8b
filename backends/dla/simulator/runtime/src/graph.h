// What computes: each tensor in the type that the header names, in handle order.
#pragma once

#include <memory>
#include <vector>

#include "container.h"

namespace stand_in {

// 64-byte aligned, as LiteRT wants it.
constexpr size_t kAlign = 64;

class Graph {
 public:
  virtual ~Graph() = default;
  // Each pointer is aligned to 64 bytes and has room for its tensor. Returns a code of the Neuron runtime.
  virtual int run(const std::vector<void*>& inputs, const std::vector<void*>& outputs) = 0;
};

// The container's TFLite file in LiteRT, whose library PARITY_SIM_LITERT names; PARITY_SIM_THREADS threads (2).
// Throws std::runtime_error.
std::unique_ptr<Graph> litert_graph(const Container& container);

// No model at all: outputs are a fixed function of the inputs, for machines without LiteRT.
// output[o][i] = ((i + o) % 97 - 48) / 16 + the sum over inputs of the mean of value[j] * (1 + j % 7), by 8 times their
// number: each place in each input matters
std::unique_ptr<Graph> arithmetic_graph(const Container& container);

}  // namespace stand_in
