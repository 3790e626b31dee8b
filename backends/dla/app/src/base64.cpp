#include "base64.h"

#include <cstdint>
#include <cstring>

namespace parity {
namespace {

constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

}  // namespace

bool decode_base64(const std::string& word, std::string& bytes) {
  const size_t end = word.find_last_not_of('=');
  const size_t count = end == std::string::npos ? 0 : end + 1;
  uint32_t bits = 0;
  int held = 0;
  for (size_t i = 0; i < count; ++i) {
    const char* digit = std::strchr(kDigits, word[i]);
    if (digit == nullptr || word[i] == '\0') return false;
    bits = bits << 6 | static_cast<uint32_t>(digit - kDigits);
    held += 6;
    if (held < 8) continue;
    held -= 8;
    bytes += static_cast<char>(bits >> held & 0xFF);
  }
  return count % 4 != 1;
}

}  // namespace parity
