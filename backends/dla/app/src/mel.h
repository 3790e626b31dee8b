// openai-whisper's log-mel spectrogram of one window.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace parity {

constexpr size_t kFft = 400, kHop = 160, kBins = kFft / 2 + 1;  // samples, samples, frequencies

class Mel {
 public:
  // `filters`: a text file of n_mels x 201 numbers, one a line. Throws Failure kLoad or kShape.
  Mel(const std::string& filters, size_t n_mels, size_t n_frames);

  // float32 [n_mels, n_frames] of at most n_frames * 160 samples, the rest silence. `result` may hold other values.
  void compute(const int16_t* samples, size_t count, std::vector<float>& result) const;
  size_t window_samples() const { return n_frames_ * kHop; }
  const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  size_t n_mels_, n_frames_;
  std::vector<float> filters_;
  std::vector<double> window_;
  std::vector<std::string> warnings_;
};

}  // namespace parity
