// CRC-32 as zlib has it.
#pragma once

#include "bytes.h"

namespace parity {

inline uint32_t crc32(Bytes bytes) {
  uint32_t sum = 0xFFFFFFFF;
  for (size_t i = 0; i < bytes.size; ++i) {
    sum ^= bytes.data[i];
    for (int bit = 0; bit < 8; ++bit) sum = sum >> 1 ^ (sum & 1 ? 0xEDB88320u : 0);
  }
  return ~sum;
}

}  // namespace parity
