// Requests to a decoder with a KV cache, which takes one token at a time.
#pragma once

#include "answering.h"
#include "stepped.h"

namespace parity {

class Stepping : public Answering {
 public:
  explicit Stepping(Stepped& stepped) : stepped_(stepped) {}
  Reply answer(const Frame& frame) override;

 private:
  Reply io_map(const Frame& frame) const;
  Reply lay_out(const Frame& frame);
  Reply encode(const Frame& frame);
  Reply set_encoding(const Frame& frame);
  Reply set_cross(const Frame& frame);
  Reply begin_on(const Frame& frame);
  Reply feed(const Frame& frame);
  Reply rewind(const Frame& frame);
  Reply look(const Frame& frame) const;
  Reply fill(const Frame& frame);
  Reply replace(const Frame& frame);
  // Where the decoder stands, which answers whatever changes it.
  Reply position(const Frame& frame) const;
  Reply set(const Frame& frame) const;

  Stepped& stepped_;
};

}  // namespace parity
