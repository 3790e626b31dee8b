#include "packing.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <numeric>

namespace parity {
namespace {

using Counts = std::array<size_t, 256>;

// High bytes, the most frequent one first.
std::array<uint8_t, 256> ordered(const Counts& counts) {
  std::array<uint8_t, 256> bytes;
  std::iota(bytes.begin(), bytes.end(), uint8_t{0});
  std::stable_sort(bytes.begin(), bytes.end(), [&](uint8_t a, uint8_t b) { return counts[a] > counts[b]; });
  return bytes;
}

size_t in_table(uint32_t bits) { return (size_t{1} << bits) - 1; }

size_t escapes(const Counts& counts, const std::array<uint8_t, 256>& bytes, uint32_t bits) {
  size_t n = 0;
  for (size_t i = in_table(bits); i < bytes.size(); ++i) n += counts[bytes[i]];
  return n;
}

void number(std::vector<uint8_t>& out, uint32_t value) {
  for (int shift = 0; shift < 32; shift += 8) out.push_back(static_cast<uint8_t>(value >> shift));
}

}  // namespace

std::vector<uint8_t> packed(const std::vector<uint16_t>& halves) {
  Counts counts{};
  for (const uint16_t half : halves) counts[half >> 8] += 1;
  const std::array<uint8_t, 256> bytes = ordered(counts);
  const size_t n = halves.size();
  const auto cost = [&](uint32_t bits) { return in_table(bits) + (n * bits + 7) / 8 + escapes(counts, bytes, bits); };
  uint32_t bits = 1;
  for (uint32_t more = 2; more < 8; ++more) bits = cost(more) < cost(bits) ? more : bits;

  std::array<uint8_t, 256> codes;
  codes.fill(static_cast<uint8_t>(in_table(bits)));
  for (size_t i = 0; i < in_table(bits); ++i) codes[bytes[i]] = static_cast<uint8_t>(i);
  std::vector<uint8_t> out;
  out.reserve(8 + n + cost(bits));
  number(out, bits);
  number(out, static_cast<uint32_t>(escapes(counts, bytes, bits)));
  out.insert(out.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(in_table(bits)));
  for (const uint16_t half : halves) out.push_back(static_cast<uint8_t>(half));
  uint32_t gathered = 0, held = 0;
  for (const uint16_t half : halves) {
    gathered = gathered << bits | codes[half >> 8];
    for (held += bits; held >= 8; held -= 8) out.push_back(static_cast<uint8_t>(gathered >> (held - 8)));
  }
  if (held > 0) out.push_back(static_cast<uint8_t>(gathered << (8 - held)));
  for (const uint16_t half : halves) {
    if (codes[half >> 8] == in_table(bits)) out.push_back(static_cast<uint8_t>(half >> 8));
  }
  return out;
}

}  // namespace parity
