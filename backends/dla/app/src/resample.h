// From a WAV file's samples to Whisper's: int16, mono, 16 kHz.
#pragma once

#include <cstdint>
#include <vector>

#include "wav.h"

namespace parity {

constexpr uint32_t kSampleRate = 16'000;  // Hz

using Pcm = std::vector<int16_t>;

// What `ffmpeg -f s16le -ac 1 -ar 16000` makes of it. Sounds of 16 bit and less are computed in its fixed-point
// arithmetic, bit for bit; others in float, rounded to int16 at the end. Throws Failure kBadRequest for NaN or infinity.
Pcm mono_16k(const Wav& wav);

}  // namespace parity
