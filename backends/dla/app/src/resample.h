// From a WAV file's samples to Whisper's: int16, mono, 16 kHz.
#pragma once

#include <cstdint>
#include <vector>

#include "wav.h"

namespace parity {

constexpr uint32_t kSampleRate = 16'000;  // Hz

using Pcm = std::vector<int16_t>;

// What `ffmpeg -f s16le -ac 1 -ar 16000` makes of it: by libswresample's default filter, in fixed point where that
// computes so (8 bit; 16 bit of this rate), else in floating point, rounded to int16 at the end. Bit for bit the same
// for 8 bit, for 64 bit and for 16 kHz mono; elsewhere a sample in some thousands differs by 1, since ours is computed
// in double. Throws Failure kBadRequest for NaN or infinity.
Pcm mono_16k(const Wav& wav);

}  // namespace parity
