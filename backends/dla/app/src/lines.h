// JSON that is written: one object a line.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace parity {

// A JSON string of text that may be no UTF-8.
std::string quoted(const std::string& text);
std::string number(double value);  // six decimals

class Object {
 public:
  // `json` is a finished value.
  Object& add(const std::string& name, const std::string& json);
  std::string json() const { return "{" + fields_ + "}"; }

 private:
  std::string fields_;
};

// "[a, b]" of finished values.
std::string list(const std::vector<std::string>& values);
std::string ids(const std::vector<int32_t>& values);
std::string texts(const std::vector<std::string>& values);

}  // namespace parity
