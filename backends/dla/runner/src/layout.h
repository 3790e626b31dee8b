// What LAYOUT says of a decoder with a KV cache: who does what, and how each tensor lies in memory.
#pragma once

#include <vector>

#include "port.h"

namespace parity {

enum class TokenForm : uint32_t { kEmbedding = 0, kId = 1, kOneHot = 2 };
enum class PositionForm : uint32_t { kNone = 0, kRow = 1, kIndex = 2, kOneHot = 3 };
// Who writes the cache: we do with the rows that the file gives; the file; the file, the newest row always last.
enum class Update : uint32_t { kOutside = 0, kInside = 1, kShift = 2 };
// Who owns the keys and values of cross attention: the file at each step; we from the first step on; the encoder.
enum class Cross : uint32_t { kRecomputed = 0, kCached = 1, kEncoder = 2 };
// Where the token that is fed sits in the mask: behind all slots, in its own slot, or nowhere.
enum class Current : uint32_t { kNoMask = 0, kLast = 1, kSlot = 2, kOutside = 3 };

struct LayoutForm {
  TokenForm token{};
  PositionForm position{};
  Update update{};
  Cross cross{};
  Current current{};
  float open = 0, closed = 0;
  uint32_t slots = 0, n_vocab = 0, n_layers = 0;
  std::vector<PortForm> features, encoder_outputs, inputs, outputs;
};

// Throws Failure kBadRequest: not of that form, or a decoder that could not be one.
LayoutForm parse_layout(Bytes payload);

}  // namespace parity
