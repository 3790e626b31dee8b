// Floats on their way out: as float16 where that loses nothing, since what an NPU without float32 gives is such and the
// link is the slow part.
#pragma once

#include <chrono>

#include "frame.h"
#include "tensor.h"

namespace parity {

// Values, ready to be sent.
struct Values {
  std::vector<Bytes> parts;
  std::vector<uint16_t> halves;  // what parts point into, unless they point into the values themselves
};

// `n` values from each of `starts`.
Values gather(const Tensor& tensor, const std::vector<size_t>& starts, size_t n);
Values gather(const std::vector<float>& values);
// A reply that ends in values.
Reply finish_values(Writer head, Values values);
// The same with logits, float16 ones packed where that is shorter.
Reply finish_logits(Writer head, Values values);
// logsumexp and the best of a row [n_vocab], behind what `body` has.
void write_best(Writer& body, const float* row, uint32_t n_vocab, uint32_t top_k);

uint64_t us_since(std::chrono::steady_clock::time_point start);

}  // namespace parity
