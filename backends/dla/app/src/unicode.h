// Text as Python has it.
#pragma once

#include <string>

namespace parity {

// bytes.decode("utf-8", "replace"): each maximal part of a broken character becomes U+FFFD.
std::string valid_utf8(const std::string& bytes);

// str.strip() of valid UTF-8.
std::string stripped(const std::string& text);

}  // namespace parity
