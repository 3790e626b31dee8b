// Values as an NPU without float32 sees them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace stand_in {

// Each value of [n] to the nearest float16, ties to even, as float32. In and out may be the same.
void round_to_half(const float* in, float* out, size_t n);

// For float16 in memory; `out` of the second needs no alignment beyond its type's.
void halves_to_floats(const uint16_t* in, float* out, size_t n);
void floats_to_halves(const float* in, uint16_t* out, size_t n);

}  // namespace stand_in
