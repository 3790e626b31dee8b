#include "half.h"

#include <cmath>
#include <cstring>

namespace stand_in {
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

// Without branches, so that the loop below becomes vector code: a decoder's output has 23 million values.
inline float nearest_half(float value) {
  const uint32_t bits = bits_of(value);
  const uint32_t sign = bits & 0x80000000;
  const uint32_t magnitude = bits & 0x7FFFFFFF;
  const uint32_t rounded = (magnitude + 0xFFF + ((magnitude >> 13) & 1)) & ~0x1FFFu;
  const uint32_t small = bits_of((float_of(magnitude) + 0.5f) - 0.5f);  // below 2^-14: a multiple of 2^-24
  uint32_t result = magnitude < 0x38800000 ? small : rounded;
  result = magnitude >= 0x477FF000 ? 0x7F800000 : result;
  result = magnitude > 0x7F800000 ? magnitude : result;
  return float_of(result | sign);
}

}  // namespace

void round_to_half(const float* in, float* out, size_t n) {
  for (size_t i = 0; i < n; ++i) out[i] = nearest_half(in[i]);
}

void halves_to_floats(const uint16_t* in, float* out, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    const uint32_t sign = static_cast<uint32_t>(in[i] & 0x8000) << 16;
    const int exponent = in[i] >> 10 & 31;
    const uint32_t fraction = in[i] & 0x3FF;
    const float value = exponent == 31  ? float_of(0x7F800000 | fraction << 13)
                        : exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                                        : std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
    out[i] = float_of(bits_of(value) | sign);
  }
}

void floats_to_halves(const float* in, uint16_t* out, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    const uint32_t bits = bits_of(nearest_half(in[i]));
    const uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF;
    uint32_t half = 0;
    if (magnitude > 0x7F800000) {
      half = 0x7E00;
    } else if (magnitude == 0x7F800000) {
      half = 0x7C00;
    } else if (magnitude >= 0x38800000) {
      half = (magnitude - (112u << 23)) >> 13;
    } else {
      half = static_cast<uint32_t>(std::ldexp(float_of(magnitude), 24));
    }
    out[i] = static_cast<uint16_t>(sign | half);
  }
}

}  // namespace stand_in
