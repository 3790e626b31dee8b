// What answers the requests that need the models.
#pragma once

#include "frame.h"

namespace parity {

class Answering {
 public:
  virtual ~Answering() = default;
  // Parts of the reply point into the models' memory: send it before the next request. Throws Failure.
  virtual Reply answer(const Frame& frame) = 0;
  uint64_t n_encode() const { return n_encode_; }
  uint64_t n_decode() const { return n_decode_; }

 protected:
  uint64_t n_encode_ = 0, n_decode_ = 0;
};

}  // namespace parity
