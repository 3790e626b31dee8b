// Without libFuzzer: mutates small WAV files of every kind, the same way each time. wav-fuzz [ITERATIONS] [SEED]

#include <string>

#include "mutation.h"

namespace {

using fuzz::Input;

void append(Input& bytes, uint64_t value, size_t size) {
  for (size_t i = 0; i < size; ++i) bytes.push_back(static_cast<uint8_t>(value >> 8 * i));
}

void append(Input& bytes, const std::string& text) { bytes.insert(bytes.end(), text.begin(), text.end()); }

Input wav(unsigned format, unsigned bits, unsigned channels, unsigned rate, bool extensible) {
  const unsigned frame = channels * bits / 8;
  Input bytes;
  append(bytes, "RIFF");
  append(bytes, 0, 4);
  append(bytes, "WAVELIST");
  append(bytes, 3, 4);
  append(bytes, std::string("abc\0", 4));  // and its pad byte
  append(bytes, "fmt ");
  append(bytes, extensible ? 40 : 16, 4);
  append(bytes, extensible ? 0xFFFE : format, 2);
  append(bytes, channels, 2);
  append(bytes, rate, 4);
  append(bytes, uint64_t{rate} * frame, 4);
  append(bytes, frame, 2);
  append(bytes, bits, 2);
  if (extensible) {
    append(bytes, 22 | bits << 16, 4);
    append(bytes, channels == 2 ? 3 : 4, 4);
    append(bytes, format, 2);
    append(bytes, std::string("\0\0\0\0\x10\0\x80\0\0\xAA\0\x38\x9B\x71", 14));
  }
  append(bytes, "data");
  append(bytes, frame * 200, 4);
  for (unsigned i = 0; i < frame * 200; ++i) bytes.push_back(static_cast<uint8_t>(i * 37));
  return bytes;
}

std::vector<Input> seeds() {
  std::vector<Input> all;
  for (const unsigned channels : {1u, 2u}) {
    for (const unsigned bits : {8u, 16u, 24u, 32u}) all.push_back(wav(1, bits, channels, 16000, bits == 24));
    for (const unsigned bits : {32u, 64u}) all.push_back(wav(3, bits, channels, 16000, bits == 64));
    all.push_back(wav(1, 8, channels, 44100, false));
    all.push_back(wav(1, 16, channels, 8000, false));
    all.push_back(wav(6, 8, channels, 8000, false));
  }
  return all;
}

}  // namespace

int main(int count, char** words) { return fuzz::run(count, words, seeds()); }
