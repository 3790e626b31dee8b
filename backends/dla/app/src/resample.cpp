#include "resample.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "faults.h"

namespace parity {
namespace {

// libswresample's defaults.
constexpr int kTaps = 32, kPhases = 1024, kFilterShift = 15;
constexpr double kCutoff = 0.97, kBeta = 9;

int16_t clipped(long value) { return static_cast<int16_t>(std::clamp(value, -32768L, 32767L)); }

double bessel_i0(double x) {  // the series of Abramowitz and Stegun 9.6.12
  double sum = 1, term = 1;
  for (int k = 1; term > sum * 1e-17; ++k) {
    term *= x * x / (4.0 * k * k);
    sum += term;
  }
  return sum;
}

// A windowed sinc for each of `phases` positions between two samples, and one more phase for interpolation.
struct Bank {
  int taps = 0, phases = 0;
  int64_t step = 0, denominator = 1;  // of the output, in phases: step / denominator
  std::vector<double> weights;        // [phases + 1, taps], a phase's sum about 1

  const double* phase(int64_t index) const { return weights.data() + index * taps; }
};

// Phases for an exact ratio where few enough do, else so many that linear interpolation is good.
int phases_of(uint32_t rate) {
  const int exact = static_cast<int>(kSampleRate / std::gcd(kSampleRate, rate));
  return exact <= kPhases ? exact * (kPhases / exact) : kPhases;
}

Bank bank_of(uint32_t rate) {
  Bank bank;
  const double factor = std::min(kSampleRate * kCutoff / rate, 1.0);
  bank.taps = (static_cast<int>(std::ceil(kTaps / factor)) + 1) / 2 * 2;
  bank.phases = phases_of(rate);
  const int64_t step = int64_t{rate} * bank.phases, common = std::gcd(step, int64_t{kSampleRate});
  bank.step = step / common;
  bank.denominator = kSampleRate / common;
  bank.weights.resize(static_cast<size_t>(bank.phases + 1) * static_cast<size_t>(bank.taps));
  const int center = (bank.taps - 1) / 2;
  double sum = 0;  // of the first phase, which is every phase's measure
  for (int phase = 0; phase <= bank.phases; ++phase) {
    double* row = bank.weights.data() + static_cast<ptrdiff_t>(phase) * bank.taps;
    for (int i = 0; i < bank.taps; ++i) {
      const double x = M_PI * (i - center - static_cast<double>(phase) / bank.phases) * factor;
      const double w = 2 * x / (factor * bank.taps * M_PI);
      row[i] = (x == 0 ? 1 : std::sin(x) / x) * bessel_i0(kBeta * std::sqrt(std::max(1 - w * w, 0.0)));
      if (phase == 0) sum += row[i];
    }
    for (int i = 0; i < bank.taps; ++i) row[i] /= sum;
  }
  return bank;
}

// Fixed point for int16: weights of 15 bits, rounded once at the end.
struct Fixed {
  using Sample = int16_t;
  std::vector<int16_t> weights;

  explicit Fixed(const Bank& bank) {
    for (const double weight : bank.weights) weights.push_back(clipped(std::lrint(weight * (1 << kFilterShift))));
  }
  int16_t sample(const Bank& bank, const int16_t* source, int64_t phase, int64_t rest) const {
    const int64_t here = product(bank, source, phase);
    if (rest == 0) return clipped(static_cast<long>((here + (1 << (kFilterShift - 1))) >> kFilterShift));
    const int64_t there = product(bank, source, phase + 1);
    const int64_t between = here + (there - here) * rest / bank.denominator;
    return clipped(static_cast<long>((between + (1 << (kFilterShift - 1))) >> kFilterShift));
  }
  int64_t product(const Bank& bank, const int16_t* source, int64_t phase) const {
    const int16_t* row = weights.data() + phase * bank.taps;
    int64_t sum = 0;
    for (int i = 0; i < bank.taps; ++i) sum += int64_t{source[i]} * row[i];
    return sum;
  }
};

// Floating point: sums in double, each sample in the type in which libswresample holds it.
template <typename Number>
struct Real {
  using Sample = Number;
  explicit Real(const Bank&) {}
  Sample sample(const Bank& bank, const Sample* source, int64_t phase, int64_t rest) const {
    const double here = std::inner_product(source, source + bank.taps, bank.phase(phase), 0.0);
    if (rest == 0) return static_cast<Sample>(here);
    const double there = std::inner_product(source, source + bank.taps, bank.phase(phase + 1), 0.0);
    const double part = static_cast<double>(rest) / static_cast<double>(bank.denominator);
    return static_cast<Sample>(here + (there - here) * part);
  }
};

// Walks a channel whose start is mirrored without its first sample, and whose end is mirrored with its last one.
template <typename Arithmetic>
class Walk {
  using Sample = typename Arithmetic::Sample;

 public:
  Walk(const std::vector<Sample>& channel, const Bank& bank) : bank_(bank), arithmetic_(bank) {
    const int64_t lead = (bank.taps - 1) / 2, count = static_cast<int64_t>(channel.size());
    source_.reserve(channel.size() + 2 * static_cast<size_t>(bank.taps));
    for (int64_t i = lead; i > 0; --i) source_.push_back(channel[static_cast<size_t>(std::min(i, count - 1))]);
    source_.insert(source_.end(), channel.begin(), channel.end());
  }

  // Empty where the sound is so short that libswresample never starts.
  std::vector<Sample> run() {
    const int64_t count = static_cast<int64_t>(source_.size()) - (bank_.taps - 1) / 2;
    if (count + (std::min<int64_t>(count, bank_.taps) + 1) / 2 <= bank_.taps) return {};
    advance();
    const auto size = static_cast<int64_t>(source_.size());
    const int64_t left = std::max<int64_t>(size - at_, 0);
    const int64_t mirrored = (std::min<int64_t>(left, bank_.taps) + 1) / 2;
    for (int64_t j = 0; j < mirrored; ++j) source_.push_back(source_[static_cast<size_t>(size - 1 - j)]);
    advance();
    return std::move(target_);
  }

 private:
  void advance() {
    while (at_ + bank_.taps <= static_cast<int64_t>(source_.size())) {
      target_.push_back(arithmetic_.sample(bank_, source_.data() + at_, phase_, rest_));
      rest_ += bank_.step % bank_.denominator;
      phase_ += bank_.step / bank_.denominator + (rest_ >= bank_.denominator ? 1 : 0);
      if (rest_ >= bank_.denominator) rest_ -= bank_.denominator;
      at_ += phase_ / bank_.phases;
      phase_ %= bank_.phases;
    }
  }

  const Bank& bank_;
  Arithmetic arithmetic_;
  std::vector<Sample> source_, target_;
  int64_t at_ = 0, phase_ = 0, rest_ = 0;
};

int16_t small_sample(const Wav& wav, size_t index) {
  if (wav.encoding == Encoding::kUnsigned8) return static_cast<int16_t>((wav.data.data[index] - 0x80) * 256);
  int16_t value;
  std::memcpy(&value, wav.data.data + 2 * index, 2);
  return value;
}

int32_t large_sample(const Wav& wav, size_t index) {
  int32_t value = 0;
  if (wav.encoding == Encoding::kSigned24) {
    uint32_t bits = 0;
    std::memcpy(&bits, wav.data.data + 3 * index, 3);
    bits <<= 8;
    std::memcpy(&value, &bits, 4);
  } else {
    std::memcpy(&value, wav.data.data + 4 * index, 4);
  }
  return value;
}

template <typename Number>
Number real_sample(const Wav& wav, size_t index) {
  double value = 0;
  if (wav.encoding == Encoding::kFloat64) {
    std::memcpy(&value, wav.data.data + 8 * index, 8);
  } else if (wav.encoding == Encoding::kFloat32) {
    float narrow;
    std::memcpy(&narrow, wav.data.data + 4 * index, 4);
    value = narrow;
  } else if (wav.encoding == Encoding::kSigned16) {
    return static_cast<Number>(small_sample(wav, index) / 32768.0);
  } else {
    return static_cast<Number>(static_cast<float>(large_sample(wav, index)) / 2147483648.0);
  }
  if (!std::isfinite(value)) {
    throw Failure(Code::kBadRequest, "a sample is NaN or infinite (sample " + std::to_string(index / wav.channels) +
                                         "); export it again");
  }
  return static_cast<Number>(value);
}

template <typename Sample, typename Read>
std::vector<Sample> channel_of(const Wav& wav, size_t channel, Read read) {
  std::vector<Sample> samples(wav.frames());
  for (size_t i = 0; i < samples.size(); ++i) samples[i] = read(wav, i * wav.channels + channel);
  return samples;
}

template <typename Arithmetic, typename Read>
std::vector<std::vector<typename Arithmetic::Sample>> channels_of(const Wav& wav, Read read) {
  using Sample = typename Arithmetic::Sample;
  std::vector<std::vector<Sample>> channels;
  for (size_t channel = 0; channel < wav.channels; ++channel) {
    channels.push_back(channel_of<Sample>(wav, channel, read));
    if (wav.rate == kSampleRate || fault("rate_8k_as_16k")) continue;
    const Bank bank = bank_of(wav.rate);
    channels.back() = Walk<Arithmetic>(channels.back(), bank).run();
  }
  return channels;
}

Pcm mixed(const std::vector<std::vector<int16_t>>& channels) {
  Pcm pcm = channels[0];
  if (channels.size() == 1) return pcm;
  for (size_t i = 0; i < pcm.size(); ++i) pcm[i] = static_cast<int16_t>((channels[0][i] + channels[1][i] + 1) >> 1);
  return pcm;
}

int16_t rounded(double value) {
  return clipped(std::lrint(std::clamp(value, -2.0, 2.0) * 32768));
}

template <typename Sample>
Pcm mixed(const std::vector<std::vector<Sample>>& channels) {
  const Sample half = static_cast<Sample>(0.5);
  Pcm pcm(channels[0].size());
  for (size_t i = 0; i < pcm.size(); ++i) {
    pcm[i] = rounded(channels.size() == 1 ? channels[0][i] : half * channels[0][i] + half * channels[1][i]);
  }
  return pcm;
}

Pcm converted(const Wav& wav) {
  const bool is_converted = wav.rate != kSampleRate;
  if (wav.encoding == Encoding::kUnsigned8 || (wav.encoding == Encoding::kSigned16 && !is_converted)) {
    return mixed(channels_of<Fixed>(wav, small_sample));
  }
  const bool is_whole = wav.encoding == Encoding::kSigned24 || wav.encoding == Encoding::kSigned32;
  if (is_whole && wav.channels == 1 && !is_converted) {  // ffmpeg cuts the low bits off
    return channel_of<int16_t>(wav, 0, [](const Wav& sound, size_t i) {
      return static_cast<int16_t>(large_sample(sound, i) >> 16);
    });
  }
  if (wav.encoding == Encoding::kFloat64) return mixed(channels_of<Real<double>>(wav, real_sample<double>));
  return mixed(channels_of<Real<float>>(wav, real_sample<float>));
}

}  // namespace

Pcm mono_16k(const Wav& given) {
  Wav wav = given;
  if (fault("stereo_as_mono")) wav.channels = 1;
  Pcm pcm = converted(wav);
  if (pcm.empty()) throw Failure(Code::kBadRequest, "holds no audio samples: too short to be converted to 16 kHz");
  return pcm;
}

}  // namespace parity
