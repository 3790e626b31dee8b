#include "unicode.h"

#include <cstdint>

namespace parity {
namespace {

constexpr char kReplacement[] = "\xEF\xBF\xBD";

struct Character {
  uint32_t code = 0;
  size_t size = 0;  // bytes taken
  bool whole = false;
};

// The Unicode standard's table 3-7: which second bytes a first byte allows.
Character character_at(const std::string& bytes, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(bytes[i]); };
  const uint8_t first = byte(at);
  if (first < 0x80) return {first, 1, true};
  if (first < 0xC2 || first > 0xF4) return {0, 1, false};
  const size_t more = first < 0xE0 ? 1 : first < 0xF0 ? 2 : 3;
  uint8_t low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  uint8_t high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  Character result{first & (0x3Fu >> more), 1, false};
  for (size_t i = 1; i <= more; ++i) {
    if (at + i >= bytes.size() || byte(at + i) < low || byte(at + i) > high) return result;
    result.code = result.code << 6 | (byte(at + i) & 0x3Fu);
    ++result.size;
    low = 0x80;
    high = 0xBF;
  }
  result.whole = true;
  return result;
}

// What str.isspace() is true for.
bool is_space(uint32_t code) {
  return (code >= 0x09 && code <= 0x0D) || (code >= 0x1C && code <= 0x20) || code == 0x85 || code == 0xA0 ||
         code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 || code == 0x202F ||
         code == 0x205F || code == 0x3000;
}

}  // namespace

std::string valid_utf8(const std::string& bytes) {
  std::string text;
  for (size_t at = 0; at < bytes.size();) {
    const Character character = character_at(bytes, at);
    text += character.whole ? bytes.substr(at, character.size) : kReplacement;
    at += character.size;
  }
  return text;
}

std::string stripped(const std::string& text) {
  size_t start = text.size(), end = 0;
  for (size_t at = 0; at < text.size();) {
    const Character character = character_at(text, at);
    if (!is_space(character.code)) {
      if (start == text.size()) start = at;
      end = at + character.size;
    }
    at += character.size;
  }
  return start < end ? text.substr(start, end - start) : "";
}

}  // namespace parity
