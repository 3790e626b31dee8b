// A RIFF/WAVE file, read whole: PCM of 8, 16, 24 and 32 bit, float of 32 and 64 bit, one or two channels.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bytes.h"

namespace parity {

enum class Encoding { kUnsigned8, kSigned16, kSigned24, kSigned32, kFloat32, kFloat64 };

// Where the samples lie in a file, and what they are.
struct Wav {
  Encoding encoding = Encoding::kSigned16;
  uint32_t rate = 0;      // Hz
  uint32_t channels = 0;  // 1 or 2
  Bytes data;             // interleaved, little-endian, a whole number of frames
  std::vector<std::string> warnings;

  size_t width() const;  // bytes of a sample
  size_t frames() const { return data.size / (width() * channels); }
};

constexpr uint32_t kMinRate = 1000, kMaxRate = 768'000;  // Hz
constexpr double kMaxSeconds = 3 * 3600.0;
// A data chunk may lack so much of what it announces: some recorders are killed amid a write.
constexpr double kMaxMissingSeconds = 0.1;

// Walks the chunks. Throws Failure kBadRequest, one line that says what was expected and what was found.
Wav parse_wav(Bytes file);

}  // namespace parity
