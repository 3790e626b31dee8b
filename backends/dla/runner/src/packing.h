// float16 values in fewer bytes: the first byte of logits takes few values, which a code of some bits tells apart.
#pragma once

#include <cstdint>
#include <vector>

namespace parity {

// u32 bits, u32 escapes, 2^bits - 1 bytes of the code's table, the low byte of each value, codes of `bits` bits (the
// first value in the highest ones), then the high bytes of the values whose code is 2^bits - 1. Little-endian.
std::vector<uint8_t> packed(const std::vector<uint16_t>& halves);

}  // namespace parity
