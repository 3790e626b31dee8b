// From an authenticated request to its reply.
#pragma once

#include <atomic>
#include <chrono>
#include <string>

#include "frame.h"
#include "whisper.h"

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
  Service(Whisper& whisper, Identity identity) : whisper_(whisper), identity_(std::move(identity)) {}

  const Identity& identity() const { return identity_; }
  // Throws Failure: kProtocolVersion, kBadToken, kBadRequest.
  Hello authenticate(Bytes payload) const;
  // Throws Failure kModelMismatch.
  void check_models(const Hello& hello) const;
  Reply welcome(uint32_t id) const;
  // Any request but HELLO. Parts of the reply point into the model's memory: send it before the next request.
  Reply answer(const Frame& frame);

 private:
  Reply encode(const Frame& frame);
  Reply set_encoding(const Frame& frame);
  Reply decode(const Frame& frame);
  Reply rows(const DecodeRequest& request, Writer head, uint64_t gather_us);
  Reply best(const DecodeRequest& request, Writer head, uint64_t gather_us);
  Reply output(const Frame& frame) const;
  Reply status(const Frame& frame) const;

  Whisper& whisper_;
  Identity identity_;
  uint64_t n_encode_ = 0, n_decode_ = 0;
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
};

// The build id's 8 bytes, and as text.
const std::string& build_id();

}  // namespace parity
