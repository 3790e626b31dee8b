// A tensor of a network: where it is bound, its type, and values in and out of it.
#pragma once

#include <string>
#include <vector>

#include "memory.h"

namespace parity {

enum class Element { kFloat32, kFloat16 };

struct Tensor {
  size_t handle = 0;
  size_t count = 0;
  Element element = Element::kFloat32;
  Buffer memory;

  size_t width() const { return element == Element::kFloat32 ? 4 : 2; }
  uint8_t* at(size_t index) const { return memory.data() + index * width(); }

  // Copy in from float32, which may be unaligned.
  void store(size_t index, const void* floats, size_t n) const;
  void clear(size_t index, size_t n) const;
  // Float32 values [n] as bytes: the memory itself, or converted into `scratch`, which must have room for them.
  Bytes load(size_t index, size_t n, float* scratch) const;
  // Values [n] as float16 into `halves`, if that loses nothing; false, with anything in `halves`, otherwise.
  bool load_halves(size_t index, size_t n, uint16_t* halves) const;
};

// Whether a tensor of so many bytes holds `count` values in a type that we know.
bool fits(size_t bytes, size_t count);
// A tensor with memory for it. Throws Failure kShape when it does not fit.
Tensor make_tensor(size_t handle, size_t bytes, size_t count, const std::string& what);

// Marks the end of each of `rows` rows with a value that no computation gives.
void mark(const Tensor& tensor, size_t rows);
// First row whose mark is still there, or `rows`: what the runtime did not write.
size_t first_marked(const Tensor& tensor, size_t rows);

}  // namespace parity
