// Any bytes into the reader of WAV files and the conversion to 16 kHz: nothing but Failure may come out.

#include "resample.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const parity::Wav wav = parity::parse_wav({data, size});
    // The filters of a rate take their time, however short the sound is.
    if (wav.rate <= 48'000 && wav.frames() <= 4096) parity::mono_16k(wav);
  } catch (const parity::Failure&) {
  }
  return 0;
}
