// float16 as bits, to and from float32. Rounds to nearest even; infinities and NaN stay what they are.
#pragma once

#include <cstddef>
#include <cstdint>

namespace parity {

uint16_t to_half(float value);
float from_half(uint16_t bits);

// Both sides may be unaligned.
void to_half(const void* floats, void* halves, size_t count);
void from_half(const void* halves, void* floats, size_t count);
// As to_half where every value comes back bit for bit; false as soon as one would not.
bool to_half_exactly(const void* floats, void* halves, size_t count);

}  // namespace parity
