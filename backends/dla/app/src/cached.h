// A decoder with a KV cache, behind the loop that knows of none.
#pragma once

#include <memory>

#include "decoding.h"
#include "stepped.h"

namespace parity {

class CachedDecoder : public Decoder {
 public:
  // Throws Failure: what loading gives, and kShape for files, tables or a layout that are another model's.
  CachedDecoder(const Runtime& runtime, const Model& model);

  void encode(Bytes features) override;
  std::vector<float> encoded() const override;
  uint32_t room() const override { return cache_.layout().slots; }
  // Keeps what was fed as far as it is the same, takes back the rest, and feeds what is new.
  const float* next(const std::vector<int32_t>& tokens) override;

 private:
  // The runner's; the seeded faults need one thing that nobody else may do.
  class Cache : public Stepped {
   public:
    using Stepped::Stepped;
    void skip() { position_ += 1; }
  };

  void require(const Model& model) const;
  void feed(int32_t token);

  Cache cache_;
  std::unique_ptr<Embedding> tokens_, positions_;  // none where the decoder takes no such rows
  size_t n_encoding_;
  std::vector<int32_t> fed_;
};

}  // namespace parity
