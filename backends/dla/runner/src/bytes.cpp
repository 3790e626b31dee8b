#include "bytes.h"

namespace parity {
namespace {

// Length of the UTF-8 sequence that starts at `at`; 0 when none does.
size_t sequence(const std::string& text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t first = byte(at);
  const size_t length = first < 0x80 ? 1 : first < 0xC2 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF5 ? 4 : 0;
  if (length == 0 || at + length > text.size()) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xC0) != 0x80) return 0;
  }
  if (length < 3) return length;
  const uint8_t second = byte(at + 1);
  const bool overlong = (first == 0xE0 && second < 0xA0) || (first == 0xF0 && second < 0x90);
  const bool no_character = (first == 0xED && second > 0x9F) || (first == 0xF4 && second > 0x8F);
  return overlong || no_character ? 0 : length;
}

}  // namespace

std::string printable(const std::string& text, size_t limit) {
  std::string clean;
  for (size_t at = 0; at < text.size();) {
    const size_t length = sequence(text, at);
    if (clean.size() + (length == 0 ? 1 : length) > limit) break;
    const char first = text[at];
    const bool control = (first >= 0 && first < 0x20 && first != '\n' && first != '\t') || first == 0x7F;
    if (length == 0) {
      clean += '?';
    } else if (control) {
      clean += ' ';
    } else {
      clean.append(text, at, length);
    }
    at += length == 0 ? 1 : length;
  }
  return clean;
}

}  // namespace parity
