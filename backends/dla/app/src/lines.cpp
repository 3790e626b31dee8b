#include "lines.h"

#include <cstdio>
#include <cstring>
#include <utility>

#include "unicode.h"

namespace parity {

namespace {

// What some readers take for the end of a line, though JSON does not: U+0085, U+2028, U+2029.
constexpr std::pair<const char*, const char*> kLineEnds[] = {
    {"\xC2\x85", "\\u0085"}, {"\xE2\x80\xA8", "\\u2028"}, {"\xE2\x80\xA9", "\\u2029"}};

std::string one_line(std::string text) {
  for (const auto& [bytes, escape] : kLineEnds) {
    for (size_t at = text.find(bytes); at != std::string::npos; at = text.find(bytes, at)) {
      text.replace(at, std::strlen(bytes), escape);
    }
  }
  return text;
}

}  // namespace

std::string quoted(const std::string& text) {
  std::string json = "\"";
  for (const char c : valid_utf8(text)) {
    if (c == '"' || c == '\\') {
      json += '\\';
      json += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(c));
      json += escape;
    } else {
      json += c;
    }
  }
  return one_line(json + "\"");
}

std::string number(double value) {
  char text[64];
  std::snprintf(text, sizeof text, "%.6f", value);
  return text;
}

Object& Object::add(const std::string& name, const std::string& json) {
  fields_ += (fields_.empty() ? "" : ", ") + quoted(name) + ": " + json;
  return *this;
}

std::string list(const std::vector<std::string>& values) {
  std::string json;
  for (const std::string& value : values) json += (json.empty() ? "" : ", ") + value;
  return "[" + json + "]";
}

std::string ids(const std::vector<int32_t>& values) {
  std::vector<std::string> numbers;
  for (const int32_t value : values) numbers.push_back(std::to_string(value));
  return list(numbers);
}

std::string texts(const std::vector<std::string>& values) {
  std::vector<std::string> strings;
  for (const std::string& value : values) strings.push_back(quoted(value));
  return list(strings);
}

}  // namespace parity
