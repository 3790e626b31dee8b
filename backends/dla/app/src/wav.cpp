#include "wav.h"

#include <algorithm>

#include "faults.h"

namespace parity {
namespace {

constexpr uint16_t kPcm = 1, kFloat = 3, kALaw = 6, kMuLaw = 7, kExtensible = 0xFFFE;
constexpr uint32_t kUnknownSize = 0x7FFF0000;  // from here on it was written to a pipe, as the harness has it
// Bytes 2 to 16 of the sub-format's GUID, behind the format's own number.
constexpr uint8_t kGuidTail[14] = {0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xAA, 0, 0x38, 0x9B, 0x71};

[[noreturn]] void refuse(const std::string& text) { throw Failure(Code::kBadRequest, text); }

bool is(Bytes bytes, size_t at, const char* id) { return std::memcmp(bytes.data + at, id, 4) == 0; }

template <typename Number>
Number number_at(Bytes bytes, size_t at) {
  Number value;
  std::memcpy(&value, bytes.data + at, sizeof value);
  return value;
}

std::string name_of(uint16_t format) {
  switch (format) {
    case 2: return "Microsoft ADPCM";
    case kALaw: return "A-law";
    case kMuLaw: return "mu-law";
    case 17: return "IMA ADPCM";
    case 0x55: return "MP3";
    default: return "format " + std::to_string(format);
  }
}

Encoding encoding_of(uint16_t format, uint16_t bits) {
  if (format == kPcm && bits == 8) return Encoding::kUnsigned8;
  if (format == kPcm && bits == 16) return Encoding::kSigned16;
  if (format == kPcm && bits == 24) return Encoding::kSigned24;
  if (format == kPcm && bits == 32) return Encoding::kSigned32;
  if (format == kFloat && bits == 32) return Encoding::kFloat32;
  if (format == kFloat && bits == 64) return Encoding::kFloat64;
  const bool known = format == kPcm || format == kFloat;
  const std::string kind = format == kPcm ? "PCM" : format == kFloat ? "float" : name_of(format);
  refuse("expected PCM of 8, 16, 24 or 32 bit or float of 32 or 64 bit, found " +
         (known ? std::to_string(bits) + " bit " : "") + kind + "; convert it to 16-bit PCM");
}

// Two channels may be other than left and right, which are mixed otherwise.
void require_stereo(uint32_t channels, uint32_t mask) {
  constexpr uint32_t kLeftAndRight = 3;
  if (channels == 2 && mask != 0 && mask != kLeftAndRight) {
    refuse("two channels that are not left and right (mask " + std::to_string(mask) + "); export it as mono or stereo");
  }
}

void parse_format(Bytes chunk, Wav& wav) {
  if (chunk.size < 16) refuse("its fmt chunk has " + std::to_string(chunk.size) + " bytes, at least 16 are needed");
  auto format = number_at<uint16_t>(chunk, 0);
  wav.channels = number_at<uint16_t>(chunk, 2);
  wav.rate = number_at<uint32_t>(chunk, 4);
  const auto block = number_at<uint16_t>(chunk, 12);
  if (format == kExtensible) {
    if (chunk.size < 40) refuse("its extensible fmt chunk has " + std::to_string(chunk.size) + " bytes of 40");
    if (std::memcmp(chunk.data + 26, kGuidTail, sizeof kGuidTail) != 0) refuse("its sub-format is of an unknown kind");
    format = number_at<uint16_t>(chunk, 24);
    require_stereo(wav.channels, number_at<uint32_t>(chunk, 20));
  }
  wav.encoding = encoding_of(format, number_at<uint16_t>(chunk, 14));
  if (wav.channels != 1 && wav.channels != 2) {
    refuse("expected one or two channels, found " + std::to_string(wav.channels) + "; mix it down to mono");
  }
  if (wav.rate < kMinRate || wav.rate > kMaxRate) {
    refuse("a sample rate of " + std::to_string(wav.rate) + " Hz; expected " + std::to_string(kMinRate) + " to " +
           std::to_string(kMaxRate));
  }
  if (block != wav.width() * wav.channels) {
    refuse("its fmt chunk says " + std::to_string(block) + " bytes a frame, its format needs " +
           std::to_string(wav.width() * wav.channels));
  }
}

// `left`: the bytes of the file from the data chunk's first on; `announced`: what the chunk says that it holds.
void take_data(Bytes left, uint64_t announced, Wav& wav) {
  const size_t frame = wav.width() * wav.channels;
  size_t size = static_cast<size_t>(std::min<uint64_t>(announced, left.size));
  if (announced > left.size && announced < kUnknownSize) {
    const double missing = static_cast<double>(announced - left.size) / static_cast<double>(frame * wav.rate);
    const std::string text = std::to_string(announced - left.size) + " bytes that its data chunk announces are missing";
    if (missing > kMaxMissingSeconds) refuse("cut short: " + text + "; copy it again");
    wav.warnings.push_back(text);
  }
  wav.data = {left.data, size - size % frame};
  if (wav.frames() == 0) refuse("holds no audio samples");
  if (static_cast<double>(wav.frames()) > kMaxSeconds * wav.rate) refuse("longer than 3 hours; cut it into clips");
}

}  // namespace

size_t Wav::width() const {
  switch (encoding) {
    case Encoding::kUnsigned8: return 1;
    case Encoding::kSigned16: return 2;
    case Encoding::kSigned24: return 3;
    case Encoding::kFloat64: return 8;
    default: return 4;
  }
}

Wav parse_wav(Bytes file) {
  if (file.size < 12 || !(is(file, 0, "RIFF") || is(file, 0, "RF64")) || !is(file, 8, "WAVE")) {
    refuse("not a WAV file (no RIFF/WAVE header); convert it to one");
  }
  Wav wav;
  bool has_format = false;
  uint64_t large_size = 0;  // of RF64
  for (uint64_t at = 12; at + 8 <= file.size;) {
    uint64_t size = number_at<uint32_t>(file, at + 4);
    const Bytes left{file.data + at + 8, static_cast<size_t>(file.size - at - 8)};
    const bool is_data = is(file, at, "data") || (fault("list_chunk") && is(file, at, "LIST"));
    if (is_data) {
      if (!has_format) refuse("its data chunk comes before any fmt chunk");
      if (size == 0xFFFFFFFF && large_size != 0) size = large_size;
      if (fault("list_chunk")) size = left.size;
      take_data(left, size, wav);
      return wav;
    }
    if (size > left.size) break;
    if (is(file, at, "fmt ")) {
      parse_format({left.data, static_cast<size_t>(size)}, wav);
      has_format = true;
    } else if (is(file, at, "ds64") && size >= 16) {
      large_size = number_at<uint64_t>(left, 8);
    }
    at += 8 + size + size % 2;
  }
  refuse(has_format ? "it has no data chunk; is it complete?" : "it has no fmt chunk; is it complete?");
}

}  // namespace parity
