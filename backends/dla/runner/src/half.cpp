#include "half.h"

#include <cstring>

namespace parity {
namespace {

uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

float float_of(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace

uint16_t to_half(float value) {
  const uint32_t bits = bits_of(value);
  const uint32_t sign = (bits >> 16) & 0x8000;
  const uint32_t magnitude = bits & 0x7FFFFFFF;
  if (magnitude > 0x7F800000) return static_cast<uint16_t>(sign | 0x7E00 | ((magnitude >> 13) & 0x3FF));
  if (magnitude >= 0x477FF000) return static_cast<uint16_t>(sign | 0x7C00);  // rounds to 65520 or more
  if (magnitude < 0x38800000) {  // below 2^-14: a multiple of 2^-24, which adding 0.5 rounds to
    const float rounded = float_of(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (bits_of(rounded) - 0x3F000000));
  }
  const uint32_t rounded = magnitude + 0xFFF + ((magnitude >> 13) & 1) - (112u << 23);
  return static_cast<uint16_t>(sign | (rounded >> 13));
}

float from_half(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t magnitude = half & 0x7FFF;
  if (magnitude >= 0x7C00) return float_of(sign | 0x7F800000 | ((magnitude & 0x3FF) << 13));
  if (magnitude >= 0x0400) return float_of(sign | ((magnitude << 13) + (112u << 23)));
  const float value = static_cast<float>(magnitude) * 0x1p-24f;
  return sign != 0 ? -value : value;
}

void to_half(const void* floats, void* halves, size_t count) {
  const auto* from = static_cast<const uint8_t*>(floats);
  auto* to = static_cast<uint8_t*>(halves);
  for (size_t i = 0; i < count; ++i) {
    float value;
    std::memcpy(&value, from + 4 * i, 4);
    const uint16_t half = to_half(value);
    std::memcpy(to + 2 * i, &half, 2);
  }
}

bool to_half_exactly(const void* floats, void* halves, size_t count) {
  const auto* from = static_cast<const uint8_t*>(floats);
  auto* to = static_cast<uint8_t*>(halves);
  for (size_t i = 0; i < count; ++i) {
    float value;
    std::memcpy(&value, from + 4 * i, 4);
    const uint16_t half = to_half(value);
    if (bits_of(from_half(half)) != bits_of(value)) return false;
    std::memcpy(to + 2 * i, &half, 2);
  }
  return true;
}

void from_half(const void* halves, void* floats, size_t count) {
  const auto* from = static_cast<const uint8_t*>(halves);
  auto* to = static_cast<uint8_t*>(floats);
  for (size_t i = 0; i < count; ++i) {
    uint16_t half;
    std::memcpy(&half, from + 2 * i, 2);
    const float value = from_half(half);
    std::memcpy(to + 4 * i, &value, 4);
  }
}

}  // namespace parity
