// From an authenticated request to its reply.
#pragma once

#include <atomic>
#include <chrono>
#include <string>

#include "answering.h"
#include "dims.h"

namespace parity {

// What HELLO_OK tells and HELLO must know.
struct Identity {
  Digest token{}, encoder{}, decoder{}, embedding{};
  uint16_t api = 0;
  uint64_t load_us = 0;
  Dims dims{};
  std::string library, version, log;
};

class Service {
 public:
  Service(Answering& models, Identity identity) : models_(models), identity_(std::move(identity)) {}

  const Identity& identity() const { return identity_; }
  // Throws Failure: kProtocolVersion, kBadToken, kBadRequest.
  Hello authenticate(Bytes payload) const;
  // Throws Failure kModelMismatch.
  void check_models(const Hello& hello) const;
  Reply welcome(uint32_t id) const;
  // Any request but HELLO. Parts of the reply point into the model's memory: send it before the next request.
  Reply answer(const Frame& frame);

 private:
  Reply status(const Frame& frame) const;

  Answering& models_;
  Identity identity_;
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
};

// The build id's 8 bytes, and as text.
const std::string& build_id();

}  // namespace parity
