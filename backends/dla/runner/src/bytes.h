// Little-endian numbers in and out of byte buffers. A reader never looks behind its end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "failure.h"

namespace parity {

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "The protocol is little-endian and is copied as it lies in memory"
#endif

constexpr size_t kMaxText = 4096;

struct Bytes {
  const uint8_t* data = nullptr;
  size_t size = 0;
};

class Reader {
 public:
  explicit Reader(Bytes bytes) : at_(bytes.data), left_(bytes.size) {}

  template <typename Number>
  Number number() {
    Number value;
    std::memcpy(&value, take(sizeof(Number)).data, sizeof(Number));
    return value;
  }

  Bytes take(size_t size) {
    if (size > left_) throw Failure(Code::kBadRequest, "the payload ends too early");
    const Bytes taken{at_, size};
    at_ += size;
    left_ -= size;
    return taken;
  }

  std::string text() {
    const uint32_t size = number<uint32_t>();
    if (size > kMaxText) throw Failure(Code::kBadRequest, "a text is longer than 4096 bytes");
    const Bytes taken = take(size);
    return std::string(reinterpret_cast<const char*>(taken.data), taken.size);
  }

  size_t left() const { return left_; }

  void finish() const {
    if (left_ != 0) throw Failure(Code::kBadRequest, "the payload is longer than its fields");
  }

 private:
  const uint8_t* at_;
  size_t left_;
};

// `text` as valid UTF-8 of at most `limit` bytes: bytes that are none become '?', control characters become spaces.
std::string printable(const std::string& text, size_t limit = kMaxText);

class Writer {
 public:
  template <typename Number>
  Writer& number(Number value) {
    const size_t at = bytes_.size();
    bytes_.resize(at + sizeof(Number));
    std::memcpy(bytes_.data() + at, &value, sizeof(Number));
    return *this;
  }

  Writer& raw(const void* data, size_t size) {
    const auto* first = static_cast<const uint8_t*>(data);
    bytes_.insert(bytes_.end(), first, first + size);
    return *this;
  }

  Writer& text(const std::string& text) {
    const std::string clean = printable(text);
    return number(static_cast<uint32_t>(clean.size())).raw(clean.data(), clean.size());
  }

  std::vector<uint8_t>& bytes() { return bytes_; }

 private:
  std::vector<uint8_t> bytes_;
};

}  // namespace parity
