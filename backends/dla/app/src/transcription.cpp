#include "transcription.h"

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "checksum.h"
#include "faults.h"

namespace parity {
namespace {

class Watch {
 public:
  explicit Watch(double& seconds) : seconds_(seconds) {}
  ~Watch() { seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - started_).count(); }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

 private:
  double& seconds_;
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
};

Bytes bytes_of(const std::vector<float>& values) {
  return {reinterpret_cast<const uint8_t*>(values.data()), values.size() * 4};
}

class Transcription {
 public:
  Transcription(const Program& program, size_t index) : program_(program), index_(index) {}

  Transcript run(const std::string& sound) {
    {
      const Watch watch(transcript_.seconds.total);
      const Pcm pcm = read(sound);
      transcript_.language = program_.language == "auto" ? "" : program_.language;
      const size_t step = program_.mel.window_samples();
      for (size_t start = 0; start < pcm.size(); start += step) {
        window(pcm.data() + start, fault("overflow_30s") ? pcm.size() : std::min(step, pcm.size() - start));
        if (fault("overflow_30s")) break;
      }
    }
    add_up();
    return std::move(transcript_);
  }

 private:
  Pcm read(const std::string& sound) {
    const Watch watch(transcript_.seconds.read);
    const MappedFile file = opened(sound);
    const Wav wav = parse_wav(file.bytes());
    transcript_.warnings = program_.mel.warnings();
    transcript_.warnings.insert(transcript_.warnings.end(), wav.warnings.begin(), wav.warnings.end());
    return mono_16k(wav);
  }

  // A sound that cannot be read is no fault of the machine's.
  static MappedFile opened(const std::string& sound) {
    try {
      return MappedFile(sound);
    } catch (const Failure& failure) {
      throw Failure(Code::kBadRequest, failure.what());
    }
  }

  void window(const int16_t* samples, size_t count) {
    WindowResult result;
    features(samples, count, result);
    encode(result);
    {
      const Watch watch(result.seconds.decode);
      if (transcript_.language.empty()) transcript_.language = detect_language(program_.model, program_.decoder);
      const auto prompt = prompt_of(program_.model, program_.rules, transcript_.language, program_.task);
      result.decoded = decode(program_.model, program_.rules, prompt, program_.decoder);
    }
    const std::string text = program_.vocabulary.text(result.decoded.tokens);
    transcript_.text += (transcript_.text.empty() || text.empty() ? "" : " ") + text;
    transcript_.windows.push_back(std::move(result));
  }

  void features(const int16_t* samples, size_t count, WindowResult& result) {
    const Watch watch(result.seconds.features);
    if (fault("overflow_30s") && count > program_.mel.window_samples()) {
      // The rows of the longer spectrogram, one behind the other, are cut where the window's memory ends.
      Mel(program_.model.filters, program_.model.dims.n_mels, count / kHop).compute(samples, count, features_);
      features_.resize(program_.model.dims.features());
    } else {
      program_.mel.compute(samples, count, features_);
    }
    result.features_crc32 = crc32(bytes_of(features_));
    dump("input_features", bytes_of(features_));
  }

  void encode(WindowResult& result) {
    const Watch watch(result.seconds.encode);
    if (fault("exit_zero")) throw Failure(Code::kInference, "encoder: this build does not run it");
    program_.decoder.encode(bytes_of(features_));
    if (program_.dump.empty()) return;
    const std::vector<float> values = program_.decoder.encoded();
    if (!values.empty()) dump("encoder_output", bytes_of(values));
  }

  void dump(const std::string& name, Bytes bytes) const {
    if (program_.dump.empty()) return;
    const std::string window = std::to_string(transcript_.windows.size());
    const std::string path = program_.dump + "/" + std::to_string(index_) + "." + window + "." + name + ".f32";
    std::FILE* file = std::fopen(path.c_str(), "wb");
    const bool written = file != nullptr && std::fwrite(bytes.data, 1, bytes.size, file) == bytes.size;
    const bool closed = file != nullptr && std::fclose(file) == 0;
    if (!written || !closed) throw Failure(Code::kLoad, path + ": cannot be written");
  }

  void add_up() {
    for (const WindowResult& window : transcript_.windows) {
      transcript_.seconds.features += window.seconds.features;
      transcript_.seconds.encode += window.seconds.encode;
      transcript_.seconds.decode += window.seconds.decode;
    }
  }

  const Program& program_;
  size_t index_;
  std::vector<float> features_;
  Transcript transcript_;
};

}  // namespace

Transcript transcribe(const Program& program, const std::string& sound, size_t index) {
  return Transcription(program, index).run(sound);
}

}  // namespace parity
