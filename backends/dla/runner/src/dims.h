// Dimensions of a Whisper model, as far as the runner needs them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace parity {

struct Dims {
  uint32_t n_mels, n_frames, n_audio_ctx, n_audio_state, n_text_ctx, n_text_state, n_vocab;

  size_t features() const { return size_t{n_mels} * n_frames; }
  size_t encoding() const { return size_t{n_audio_ctx} * n_audio_state; }
  size_t embeddings() const { return size_t{n_text_ctx} * n_text_state; }
  size_t logits() const { return size_t{n_text_ctx} * n_vocab; }
};

}  // namespace parity
