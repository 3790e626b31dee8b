// Any bytes in any pieces into the parsers of the protocol and of the .npy header: nothing but Failure may come out.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "embedding.h"
#include "frame.h"

namespace {

using namespace parity;

template <typename Parse>
void attempt(Parse parse) {
  try {
    parse();
  } catch (const Failure& failure) {
    error_reply(1, failure);
  }
}

void parse(Bytes payload) {
  attempt([&] { parse_hello(payload); });
  attempt([&] { parse_encode(payload, 4); });
  attempt([&] { parse_set_encoding(payload, 4); });
  attempt([&] { parse_decode(payload, 448, 51865); });
  attempt([&] { parse_output(payload); });
  attempt([&] { parse_empty(payload); });
  attempt([&] { npy_offset(payload, 4, 2); });
}

// As a socket would give them: the first byte of the input says how many come at once.
void assemble(const uint8_t* data, size_t size) {
  FrameReader reader;
  reader.set_limit(1u << 20, Code::kTooLarge, "the test's limit");
  const size_t piece = size > 0 ? size_t{data[0]} + 1 : 1;
  while (size > 0) {
    const auto [to, room] = reader.space();
    const size_t n = std::min({piece, room, size});
    std::memcpy(to, data, n);
    reader.filled(n);
    data += n;
    size -= n;
    if (reader.complete()) parse(reader.take().bytes());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  attempt([&] { assemble(data, size); });
  parse({data, size});
  return 0;
}
