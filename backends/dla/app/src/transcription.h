// One sound, from its file to its text.
#pragma once

#include <string>
#include <vector>

#include "decoding.h"
#include "mel.h"
#include "model.h"
#include "resample.h"
#include "vocabulary.h"

namespace parity {

struct Seconds {
  double read = 0, features = 0, encode = 0, decode = 0, total = 0;
};

struct WindowResult {
  Decoded decoded;
  uint32_t features_crc32 = 0;
  Seconds seconds;
};

struct Transcript {
  std::string text, language;
  std::vector<WindowResult> windows;
  Seconds seconds;
  std::vector<std::string> warnings;
};

// What is loaded once.
struct Program {
  const Model& model;
  const Rules& rules;
  const Mel& mel;
  const Vocabulary& vocabulary;
  Decoder& decoder;
  std::string language, task, dump;  // language: a code, or "auto"
};

// The `index`th sound of the command line, from 0 on.
// Throws Failure: kBadRequest for the sound, kInference, and kLoad where a dump cannot be written.
Transcript transcribe(const Program& program, const std::string& sound, size_t index);

}  // namespace parity
