// The one exception type: what went wrong, in the protocol's words.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace parity {

enum class Code : uint32_t {
  kProtocolVersion = 1,
  kBadToken = 2,
  kModelMismatch = 3,
  kBadRequest = 4,
  kTooLarge = 5,
  kBusy = 6,
  kLibrary = 7,
  kRuntimeVersion = 8,
  kLoad = 9,
  kInference = 10,
  kOutOfMemory = 11,
  kShape = 12,
  kNoEncoding = 13,
  kInternal = 14,
};

class Failure : public std::runtime_error {
 public:
  Failure(Code code, const std::string& text, int32_t runtime_code = 0)
      : std::runtime_error(text), code_(code), runtime_code_(runtime_code) {}

  Code code() const { return code_; }
  // What the Neuron runtime returned; 0 when it was not the runtime that failed.
  int32_t runtime_code() const { return runtime_code_; }

 private:
  Code code_;
  int32_t runtime_code_;
};

}  // namespace parity
