// Any bytes in any pieces into the parsers of the protocol and of the .npy header: nothing but Failure may come out.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "embedding.h"
#include "frame.h"
#include "layout.h"
#include "packing.h"

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

// Whatever a layout says, no number is read or written outside of its tensor.
void lay_out(Bytes payload) {
  const LayoutForm layout = parse_layout(payload);
  for (const auto* side : {&layout.features, &layout.encoder_outputs, &layout.inputs, &layout.outputs}) {
    for (const PortForm& form : *side) {
      if (form.count() > 4096) continue;
      Port port(form, form.count() * width(form.kind), "port");
      port.write(port.read());
      if (form.slot_axis == kNone) continue;
      port.write_slot(0, port.read_slot(0).data());
      port.roll(1);
    }
  }
}

void pack(Bytes payload) {
  std::vector<uint16_t> halves(payload.size / 2);
  if (!halves.empty()) std::memcpy(halves.data(), payload.data, halves.size() * 2);
  packed(halves);
}

void parse(Bytes payload) {
  attempt([&] { parse_hello(payload); });
  attempt([&] { parse_encode(payload, 4); });
  attempt([&] { parse_set_encoding(payload, 4); });
  attempt([&] { parse_decode(payload, 448, 51865); });
  attempt([&] { parse_output(payload); });
  attempt([&] { parse_empty(payload); });
  attempt([&] { parse_number(payload); });
  attempt([&] { parse_feed(payload, 1, 1, 51865); });
  attempt([&] { parse_look(payload, 3); });
  attempt([&] { parse_fill(payload); });
  attempt([&] { parse_replace(payload); });
  attempt([&] { parse_set_cross(payload, 2, 2); });
  attempt([&] { lay_out(payload); });
  attempt([&] { pack(payload); });
  attempt([&] { npy_offset(payload, "table", Rows{4}, 2); });
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
