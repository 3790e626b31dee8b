// Requests to a decoder that takes whole sequences.
#pragma once

#include "answering.h"
#include "whisper.h"

namespace parity {

class Whole : public Answering {
 public:
  explicit Whole(Whisper& whisper) : whisper_(whisper) {}
  Reply answer(const Frame& frame) override;

 private:
  Reply encode(const Frame& frame);
  Reply set_encoding(const Frame& frame);
  Reply decode(const Frame& frame);
  Reply rows(const DecodeRequest& request, Writer head, uint64_t gather_us);
  Reply best(const DecodeRequest& request, Writer head, uint64_t gather_us);
  Reply output(const Frame& frame) const;

  Whisper& whisper_;
};

}  // namespace parity
