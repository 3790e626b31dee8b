// model.json: what the files of a folder are, and the ids that its vocabulary gives to special tokens.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "dims.h"
#include "layout.h"
#include "whisper.h"

namespace parity {

struct Model {
  Dims dims{};
  uint32_t vocabulary_size = 0;
  Paths paths;                       // encoder, decoder, embedding
  std::string positions;             // the other table, of a decoder with a KV cache; else empty
  std::optional<LayoutForm> layout;  // of such a decoder, where it is told
  std::string filters, vocabulary;   // files
  int32_t sot = 0, eot = 0, transcribe = 0, translate = 0, no_timestamps = 0, no_speech = 0;
  std::map<std::string, int32_t> languages;  // code -> id; empty for an English-only model

  bool multilingual() const { return !languages.empty(); }
};

// Throws Failure kLoad.
Model read_model(const std::string& folder);

// How a window is decoded.
struct Rules {
  std::vector<int32_t> suppress;        // ids that are never chosen
  std::vector<int32_t> suppress_first;  // ids that are not chosen at a window's first step
  std::vector<int32_t> prompt;          // ids to feed; empty: made of language and task
  uint32_t max_tokens = 0;              // steps of a window; 0: as many as the decoder has room for
};

// Throws Failure kBadRequest.
Rules read_rules(const std::string& path, const Model& model);

}  // namespace parity
