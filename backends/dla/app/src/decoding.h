// From an encoded window to its tokens.
#pragma once

#include <string>
#include <vector>

#include "model.h"
#include "whisper.h"

namespace parity {

// Encoder and decoder of a model. The fixed-shape decoder is one; the cached one, of cached.h, needs no other loop.
class Decoder {
 public:
  virtual ~Decoder() = default;
  // A window, float32 [n_mels, n_frames]: what next() follows from now on. Throws Failure kInference.
  virtual void encode(Bytes features) = 0;
  // Of the window: float32 [n_audio_ctx, n_audio_state]; nothing where the encoder gives something else.
  virtual std::vector<float> encoded() const = 0;
  // Positions: prompt and tokens together.
  virtual uint32_t room() const = 0;
  // float32 [n_vocab] of what follows `tokens`, until the next call. Throws Failure kInference.
  virtual const float* next(const std::vector<int32_t>& tokens) = 0;
};

class FixedDecoder : public Decoder {
 public:
  FixedDecoder(const Runtime& runtime, const Model& model);
  void encode(Bytes features) override { whisper_.encode(features); }
  std::vector<float> encoded() const override;
  uint32_t room() const override { return whisper_.dims().n_text_ctx; }
  const float* next(const std::vector<int32_t>& tokens) override;

 private:
  Whisper whisper_;
  std::vector<float> row_;
};

struct Decoded {
  std::vector<int32_t> prompt;
  std::vector<int32_t> tokens;  // end-of-text included
  std::string ended;            // "eot", or "length"
};

// Start-of-transcript, language, task and no-timestamps, as far as the vocabulary has them; or the rules' own prompt.
std::vector<int32_t> prompt_of(const Model& model, const Rules& rules, const std::string& language,
                               const std::string& task);

// The likeliest language behind start-of-transcript; "en" for an English-only model.
std::string detect_language(const Model& model, Decoder& decoder);

// Greedy: the greatest logit of an allowed id, equal ones by lower id.
// Throws Failure kInference, also for a logit that is NaN or infinite.
Decoded decode(const Model& model, const Rules& rules, const std::vector<int32_t>& prompt, Decoder& decoder);

}  // namespace parity
