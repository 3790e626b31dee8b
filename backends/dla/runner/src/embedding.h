// token_embedding.npy, mapped: float32 [n_vocab, n_text_state], C order.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dims.h"
#include "memory.h"

namespace parity {

class Embedding {
 public:
  // Throws Failure: kLoad when it is no such table, kShape when it is another model's.
  Embedding(const std::string& path, const Dims& dims);

  // float32 [n_text_state] of a token; may be unaligned.
  const uint8_t* row(int32_t token) const { return table_ + static_cast<size_t>(token) * row_size_; }
  size_t row_size() const { return row_size_; }

 private:
  MappedFile file_;
  const uint8_t* table_ = nullptr;
  size_t row_size_ = 0;
};

// Offset of the table in the bytes of a .npy file, whose header must name this shape. Throws Failure.
size_t npy_offset(Bytes file, uint32_t rows, uint32_t columns);

}  // namespace parity
