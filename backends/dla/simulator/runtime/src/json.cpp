#include "json.h"

#include <cstdlib>
#include <cstring>
#include <stdexcept>

namespace stand_in {
namespace {

constexpr int kMaxDepth = 16;

class Parser {
 public:
  Parser(const char* data, size_t size) : at_(data), end_(data + size) {}

  Json document() {
    Json found = value(0);
    if (peek() != '\0') fail("something follows the value");
    return found;
  }

 private:
  [[noreturn]] static void fail(const char* what) { throw std::runtime_error(std::string("not JSON: ") + what); }

  // The next character that is not white space; NUL at the end.
  char peek() {
    while (at_ < end_ && std::strchr(" \t\r\n", *at_) != nullptr && *at_ != '\0') ++at_;
    return at_ < end_ ? *at_ : '\0';
  }

  void expect(char wanted) {
    if (peek() != wanted) fail("a bracket, colon or comma is missing");
    ++at_;
  }

  bool word(const char* wanted) {
    const size_t size = std::strlen(wanted);
    if (static_cast<size_t>(end_ - at_) < size || std::memcmp(at_, wanted, size) != 0) return false;
    at_ += size;
    return true;
  }

  Json value(int depth) {
    if (depth > kMaxDepth) fail("nested too deeply");
    Json found;
    switch (peek()) {
      case '{': return object(depth);
      case '[': return array(depth);
      case '"':
        found.kind = Json::Kind::kString;
        found.text = string();
        return found;
      case 't':
      case 'f':
        found.kind = Json::Kind::kBool;
        found.boolean = *at_ == 't';
        if (!word(found.boolean ? "true" : "false")) fail("an unknown word");
        return found;
      case 'n':
        if (!word("null")) fail("an unknown word");
        return found;
      default: return number();
    }
  }

  Json object(int depth) {
    Json found;
    found.kind = Json::Kind::kObject;
    expect('{');
    if (peek() == '}') return ++at_, found;
    while (true) {
      if (peek() != '"') fail("a name is missing");
      const std::string name = string();
      expect(':');
      found.fields[name] = value(depth + 1);
      if (peek() == '}') return ++at_, found;
      expect(',');
    }
  }

  Json array(int depth) {
    Json found;
    found.kind = Json::Kind::kArray;
    expect('[');
    if (peek() == ']') return ++at_, found;
    while (true) {
      found.items.push_back(value(depth + 1));
      if (peek() == ']') return ++at_, found;
      expect(',');
    }
  }

  // Escapes are kept as the character behind the backslash: names are all that we read.
  std::string string() {
    std::string text;
    for (++at_; at_ < end_; ++at_) {
      if (*at_ == '"') return ++at_, text;
      if (*at_ == '\\' && ++at_ == end_) break;
      text += *at_;
    }
    fail("a text does not end");
  }

  Json number() {
    const char* start = at_;
    while (at_ < end_ && *at_ != '\0' && std::strchr("+-.eE0123456789", *at_) != nullptr) ++at_;
    const std::string digits(start, at_);
    char* end = nullptr;
    Json found;
    found.kind = Json::Kind::kNumber;
    found.number = std::strtod(digits.c_str(), &end);
    if (digits.empty() || *end != '\0') fail("an unknown character");
    return found;
  }

  const char* at_;
  const char* end_;
};

}  // namespace

const Json& Json::at(const std::string& name) const {
  static const Json null;
  const auto found = fields.find(name);
  return found == fields.end() ? null : found->second;
}

Json parse_json(const char* data, size_t size) { return Parser(data, size).document(); }

}  // namespace stand_in
