#include "tensor.h"

#include "half.h"

namespace parity {
namespace {

// NaNs with payloads of our own.
constexpr uint32_t kMark32 = 0xFFA5C3E1;
constexpr uint16_t kMark16 = 0xFDA5;

template <typename Visit>
size_t each_row_end(const Tensor& tensor, size_t rows, Visit visit) {
  const size_t columns = tensor.count / rows;
  for (size_t row = 0; row < rows; ++row) {
    if (visit(tensor.at((row + 1) * columns - 1))) return row;
  }
  return rows;
}

}  // namespace

void Tensor::store(size_t index, const void* floats, size_t n) const {
  if (element == Element::kFloat32) {
    std::memcpy(at(index), floats, n * 4);
  } else {
    to_half(floats, at(index), n);
  }
}

void Tensor::clear(size_t index, size_t n) const { std::memset(at(index), 0, n * width()); }

Bytes Tensor::load(size_t index, size_t n, float* scratch) const {
  if (element == Element::kFloat32) return {at(index), n * 4};
  from_half(at(index), scratch, n);
  return {reinterpret_cast<const uint8_t*>(scratch), n * 4};
}

bool Tensor::load_halves(size_t index, size_t n, uint16_t* halves) const {
  if (element == Element::kFloat32) return to_half_exactly(at(index), halves, n);
  std::memcpy(halves, at(index), n * 2);
  return true;
}

bool fits(size_t bytes, size_t count) { return bytes == 4 * count || bytes == 2 * count; }

Tensor make_tensor(size_t handle, size_t bytes, size_t count, const std::string& what) {
  if (!fits(bytes, count)) {
    throw Failure(Code::kShape, what + ": expected " + std::to_string(4 * count) + " bytes (float32) or " +
                                    std::to_string(2 * count) + " (float16), the DLA says " + std::to_string(bytes));
  }
  return {handle, count, bytes == 4 * count ? Element::kFloat32 : Element::kFloat16, Buffer(bytes)};
}

void mark(const Tensor& tensor, size_t rows) {
  each_row_end(tensor, rows, [&](uint8_t* at) {
    if (tensor.element == Element::kFloat32) {
      std::memcpy(at, &kMark32, 4);
    } else {
      std::memcpy(at, &kMark16, 2);
    }
    return false;
  });
}

size_t first_marked(const Tensor& tensor, size_t rows) {
  return each_row_end(tensor, rows, [&](uint8_t* at) {
    return tensor.element == Element::kFloat32 ? std::memcmp(at, &kMark32, 4) == 0 : std::memcmp(at, &kMark16, 2) == 0;
  });
}

}  // namespace parity
