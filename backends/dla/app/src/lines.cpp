#include "lines.h"

#include <cstdio>

#include "unicode.h"

namespace parity {

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
  return json + "\"";
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
