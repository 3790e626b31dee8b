#include "mel.h"

#include <pocketfft_hdronly.h>

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdlib>
#include <limits>

#include "faults.h"
#include "memory.h"

namespace parity {
namespace {

constexpr size_t kMargin = kFft / 2;
constexpr float kFloor = 1e-10f;

std::vector<double> hann() {
  std::vector<double> window(kFft);
  const double period = fault("symmetric_window") ? kFft - 1 : kFft;
  for (size_t i = 0; i < kFft; ++i) {
    // Through float32, as openai-whisper holds it.
    window[i] = static_cast<float>(0.5 - 0.5 * std::cos(2 * M_PI * static_cast<double>(i) / period));
  }
  return window;
}

std::vector<float> read_filters(const std::string& path, size_t count) {
  const MappedFile file(path);
  const std::string text(reinterpret_cast<const char*>(file.bytes().data), file.bytes().size);
  std::vector<float> values;
  const char* at = text.c_str();
  for (char* end = nullptr;; at = end) {
    const float value = std::strtof(at, &end);
    if (end == at || values.size() > count) break;
    values.push_back(value);
  }
  const bool is_whole = text.find_first_not_of(" \t\r\n", static_cast<size_t>(at - text.c_str())) == std::string::npos;
  const bool is_finite = std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
  if (values.size() != count || !is_whole || !is_finite) {
    throw Failure(Code::kShape, path + ": expected " + std::to_string(count) + " numbers, one a line, found " +
                                    (values.size() > count ? "more" : std::to_string(values.size())));
  }
  return values;
}

// The window with silence behind it, and `kMargin` samples mirrored at each end without the edge's own.
std::vector<double> padded(const int16_t* samples, size_t count, size_t length) {
  std::vector<double> signal(length + 2 * kMargin);
  for (size_t i = 0; i < count; ++i) signal[kMargin + i] = samples[i] / 32768.0;
  const size_t edge = fault("edge_mirror") ? 0 : 1;  // numpy's "symmetric" repeats the edge, "reflect" does not
  for (size_t i = 0; i < kMargin; ++i) {
    signal[kMargin - 1 - i] = signal[kMargin + i + edge];
    signal[kMargin + length + i] = signal[kMargin + length - 1 - i - edge];
  }
  return signal;
}

}  // namespace

Mel::Mel(const std::string& filters, size_t n_mels, size_t n_frames)
    : n_mels_(n_mels), n_frames_(n_frames), window_(hann()) {
  if (fault("filters_missing")) {
    filters_.assign(n_mels * kBins, 0.01f);
    warnings_.push_back(filters + ": cannot be read, going on without it");
    return;
  }
  filters_ = read_filters(filters, n_mels * kBins);
}

void Mel::compute(const int16_t* samples, size_t count, std::vector<float>& result) const {
  count = std::min(count, window_samples());
  const std::vector<double> signal = padded(samples, count, window_samples());
  result.resize(n_mels_ * n_frames_);
  std::vector<double> frame(kFft);
  std::vector<std::complex<double>> spectrum(kBins);
  std::vector<float> power(kBins);
  const pocketfft::shape_t shape{kFft};
  const pocketfft::stride_t in{sizeof(double)}, out{sizeof(std::complex<double>)};
  const size_t heard = fault("padded_spectrogram") ? std::min(count / kHop, n_frames_) : n_frames_;
  for (size_t t = 0; t < heard; ++t) {
    for (size_t i = 0; i < kFft; ++i) frame[i] = signal[t * kHop + i] * window_[i];
    pocketfft::r2c(shape, in, out, size_t{0}, pocketfft::FORWARD, frame.data(), spectrum.data(), 1.0);
    for (size_t k = 0; k < kBins; ++k) power[k] = static_cast<float>(std::norm(spectrum[k]));
    for (size_t m = 0; m < n_mels_; ++m) {
      double sum = 0;
      for (size_t k = 0; k < kBins; ++k) sum += static_cast<double>(filters_[m * kBins + k]) * power[k];
      result[m * n_frames_ + t] = std::log10(std::max(static_cast<float>(sum), kFloor));
    }
  }
  float greatest = -std::numeric_limits<float>::infinity();
  for (size_t m = 0; m < n_mels_; ++m) {
    for (size_t t = 0; t < heard; ++t) greatest = std::max(greatest, result[m * n_frames_ + t]);
  }
  for (size_t m = 0; m < n_mels_; ++m) {
    for (size_t t = 0; t < n_frames_; ++t) {
      float& value = result[m * n_frames_ + t];
      value = t < heard ? (std::max(value, greatest - 8.0f) + 4.0f) / 4.0f : 0.0f;
    }
  }
}

}  // namespace parity
