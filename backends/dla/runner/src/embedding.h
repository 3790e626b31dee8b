// A table of rows that are looked up outside of the graphs, mapped: float32, C order.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "memory.h"

namespace parity {

// As many rows, or at least so many.
struct Rows {
  uint32_t count;
  bool or_more = false;
};

class Embedding {
 public:
  // `what` it is, for errors. Throws Failure: kLoad when it is no such table, kShape when it is another model's.
  Embedding(const std::string& path, const std::string& what, Rows rows, uint32_t columns);

  // float32 [columns] of a token, or a position; may be unaligned.
  const uint8_t* row(int32_t place) const { return table_ + static_cast<size_t>(place) * row_size_; }
  size_t row_size() const { return row_size_; }

 private:
  MappedFile file_;
  const uint8_t* table_ = nullptr;
  size_t row_size_ = 0;
};

// Offset of the table in the bytes of a .npy file, whose header must name this shape. Throws Failure.
size_t npy_offset(Bytes file, const std::string& what, Rows rows, uint32_t columns);

}  // namespace parity
