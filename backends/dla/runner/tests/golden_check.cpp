// golden.json against the runner's own reading and writing of frames, and the small arithmetic. Exit code 0: all as it
// should be.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "frame.h"
#include "golden.h"
#include "half.h"
#include "layout.h"
#include "packing.h"
#include "selection.h"

namespace {

using namespace parity;

int failures = 0;

void expect(bool right, const std::string& what) {
  if (right) return;
  std::printf("wrong: %s\n", what.c_str());
  failures += 1;
}

std::string hex_of(const std::vector<uint8_t>& bytes) {
  std::string text;
  char digits[3];
  for (const uint8_t byte : bytes) {
    std::snprintf(digits, sizeof digits, "%02x", byte);
    text += digits;
  }
  return text;
}

std::vector<uint8_t> golden(const std::string& name) {
  for (const Golden& each : kGolden) {
    if (name != each.name) continue;
    std::vector<uint8_t> bytes;
    for (const char* at = each.hex; at[0] != '\0' && at[1] != '\0'; at += 2) {
      bytes.push_back(static_cast<uint8_t>(std::strtoul(std::string(at, 2).c_str(), nullptr, 16)));
    }
    return bytes;
  }
  expect(false, name + " is not in golden.json");
  return std::vector<uint8_t>(kHeaderSize);
}

// The golden request as a frame, put together from pieces of `piece` bytes.
Frame request(const std::string& name, Type type, uint32_t id, size_t piece = 5) {
  const std::vector<uint8_t> bytes = golden(name);
  FrameReader reader;
  for (size_t at = 0; at < bytes.size();) {
    const auto [to, room] = reader.space();
    const size_t n = std::min({piece, room, bytes.size() - at});
    std::memcpy(to, &bytes[at], n);
    reader.filled(n);
    at += n;
  }
  expect(reader.complete(), name + " is one whole frame");
  Frame frame = reader.take();
  expect(frame.type() == type && frame.header.id == id && frame.header.flags == 0, name + ": its header");
  return frame;
}

void compare(const std::string& name, Reply reply) {
  std::vector<uint8_t> bytes = reply.head;
  for (const Bytes& part : reply.parts) bytes.insert(bytes.end(), part.data, part.data + part.size);
  expect(bytes == golden(name), name + ": wrote " + hex_of(bytes));
}

bool filled(const Digest& digest, uint8_t first) {
  for (size_t i = 0; i < digest.size(); ++i) {
    if (digest[i] != static_cast<uint8_t>(first + i)) return false;
  }
  return true;
}

float value(Bytes bytes, size_t index) {
  float found;
  std::memcpy(&found, bytes.data + 4 * index, 4);
  return found;
}

void check_requests() {
  const Hello hello = parse_hello(request("HELLO", Type::kHello, 1).bytes());
  expect(filled(hello.token, 0x00) && filled(hello.encoder, 0x20), "HELLO: token, encoder");
  expect(filled(hello.decoder, 0x40) && filled(hello.embedding, 0x60), "HELLO: decoder, embedding");
  expect(hello.owner == "ada@host pid 7 \xc3\xa9", "HELLO: owner");

  const Frame encode = request("ENCODE", Type::kEncode, 2);
  const EncodeRequest features = parse_encode(encode.bytes(), 3);
  expect(features.want_output && value(features.features, 0) == 0.5f && value(features.features, 1) == -1.0f &&
             value(features.features, 2) == 3.25f, "ENCODE: values");

  const Frame set = request("SET_ENCODING", Type::kSetEncoding, 3);
  expect(value(parse_set_encoding(set.bytes(), 2), 1) == -2.0f, "SET_ENCODING: values");

  const DecodeRequest decode = parse_decode(request("DECODE", Type::kDecode, 4).bytes(), 448, 51865);
  expect(decode.encoding == 9 && decode.top_k == 2, "DECODE: encoding, top_k");
  expect(decode.tokens == std::vector<int32_t>({50258, 50259, 400}) && decode.rows == std::vector<uint32_t>({1, 2}),
         "DECODE: tokens, rows");

  const OutputRequest output = parse_output(request("OUTPUT", Type::kOutput, 5).bytes());
  expect(output.component == 1 && output.index == 2 && output.offset == 16 && output.length == 8589934592ULL, "OUTPUT");
  parse_empty(request("STATUS", Type::kStatus, 6).bytes());
  parse_empty(request("BYE", Type::kBye, 7).bytes());
}

void check_steps() {
  const LayoutForm layout = parse_layout(request("LAYOUT", Type::kLayout, 10).bytes());
  expect(layout.token == TokenForm::kId && layout.position == PositionForm::kIndex && layout.current == Current::kSlot,
         "LAYOUT: words");
  expect(layout.closed == -1e4f && layout.slots == 3 && layout.n_vocab == 5 && layout.n_layers == 2, "LAYOUT: numbers");
  expect(layout.inputs.size() == 6 && layout.inputs[2].role == Role::kPastKeys && layout.inputs[2].slot_axis == 1 &&
             layout.inputs[2].count() == 24 && layout.inputs[4].kind == Kind::kInt32, "LAYOUT: inputs");
  expect(layout.encoder_outputs[0].kind == Kind::kInt8 && layout.encoder_outputs[0].scale == 0.5 &&
             layout.encoder_outputs[0].zero_point == -3, "LAYOUT: integers with a scale");

  const Frame cross = request("SET_CROSS", Type::kSetCross, 11);
  const SetCrossRequest set = parse_set_cross(cross.bytes(), 2, 2);
  expect(set.index == 1 && value(set.values, 1) == -0.25f, "SET_CROSS");
  expect(parse_number(request("BEGIN", Type::kBegin, 12).bytes()) == 10, "BEGIN");
  const FeedRequest feed = parse_feed(request("FEED", Type::kFeed, 13).bytes(), 1, 1, 51865);
  expect(feed.token == 50258 && feed.top_k == 2 && feed.token_row[0] == 0.5f && feed.position_row[0] == -1, "FEED");
  const FeedRequest wide = parse_feed(request("FEED_WIDE", Type::kFeed, 13).bytes(), 1, 0, 51865);
  expect(wide.token == 7 && wide.token_row[0] == 0.1f && wide.position_row.empty(), "FEED with float32");
  expect(parse_number(request("REWIND", Type::kRewind, 14).bytes()) == 3, "REWIND");
  const LookRequest look = parse_look(request("LOOK", Type::kLook, 15).bytes(), 3);
  expect(look.what == Look::kCross && look.index == 5, "LOOK");
  expect(parse_fill(request("FILL", Type::kFill, 16).bytes()) == 2.5f, "FILL");
  const ReplaceRequest other = parse_replace(request("REPLACE", Type::kReplace, 17).bytes());
  expect(other.which == 4 && other.values == std::vector<float>({1.0f}), "REPLACE");
  parse_empty(request("IO_MAP", Type::kIoMap, 9).bytes());

  Writer map = begin(Type::kIoMapOk, 9);
  map.number(1u).number(uint64_t{960000}).number(1u).number(uint64_t{3072000});
  map.number(2u).number(uint64_t{4}).number(uint64_t{917504}).number(2u).number(uint64_t{207460}).number(uint64_t{2048});
  compare("IO_MAP_OK", finish(std::move(map)));
  Writer position = begin(Type::kPosition, 14);
  compare("POSITION", finish(std::move(position.number(9u))));
  Writer numbers = begin(Type::kNumbers, 15);
  compare("NUMBERS", finish(std::move(numbers.number(2u).number(1.5f).number(-0.25f))));
}

// A tensor by heads whose axes lie in another order than ours, in integers with a scale.
void check_ports() {
  PortForm form;
  form.kind = Kind::kInt8;
  form.scale = 0.5;
  form.zero_point = 1;
  form.axes = {{3, 1}, {2, 6}, {2, 3}};  // slots, heads, state; in memory heads, state, slots
  form.slot_axis = 0;
  Port port(form, 12, "port");
  const float row[] = {1, 2, 3, -1000};
  port.write_slot(1, row);
  expect(port.memory().data()[1] == 3 && port.memory().data()[4] == 5 && port.memory().data()[7] == 7 &&
             static_cast<int8_t>(port.memory().data()[10]) == -128, "a slot in the file's order and type");
  expect(port.read_slot(1) == std::vector<float>({1, 2, 3, -64.5f}), "a slot read back");
  port.fill_slots(0, 1, 4);
  port.roll(1);
  expect(port.read_slot(1) == std::vector<float>(4, 4.0f) && port.read_slot(2)[0] == 1, "slots moved on");
  port.clear();
  expect(port.read() == std::vector<float>(12, 0.0f), "zero is the zero point");
  try {
    form.axes[0].stride = 40;
    Port(form, 12, "port");
    expect(false, "an axis that leads out of memory is refused");
  } catch (const Failure& failure) {
    expect(failure.code() == Code::kShape, "an axis that leads out of memory is SHAPE");
  }
}

void check_packing() {
  const std::vector<uint8_t> bytes = packed({0x3C00, 0x3C01, 0xBC00, 0x3C02, 0x4200});
  expect(hex_of(bytes) == "01000000020000003c0001000200" "28" "bc42", "packed: " + hex_of(bytes));
}

void check_replies() {
  Writer hello = begin(Type::kHelloOk, 1);
  hello.number(kProtocol).number(uint16_t{2});
  for (const int byte : {0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef}) hello.number(static_cast<uint8_t>(byte));
  hello.number(uint32_t{4321}).number(uint64_t{1234567});
  for (const uint32_t dim : {80u, 3000u, 1500u, 512u, 448u, 512u, 51865u}) hello.number(dim);
  hello.text("/vendor/lib64/mt8189/libneuron_runtime.8.so").text("8.2.16");
  compare("HELLO_OK", finish(std::move(hello)));

  const float values[] = {1.5f, -0.25f};
  const auto* raw = reinterpret_cast<const uint8_t*>(values);
  Writer encoded = begin(Type::kEncoded, 2);
  encoded.number(uint64_t{98765}).number(uint32_t{9}).number(uint32_t{2});
  compare("ENCODED", finish(std::move(encoded), {{raw, 8}}));

  Writer set = begin(Type::kEncodingSet, 3);
  set.number(uint32_t{10});
  compare("SET", finish(std::move(set)));

  Writer rows = begin(Type::kDecoded, 4);
  rows.number(uint64_t{70000}).number(uint64_t{80}).number(uint32_t{2}).number(uint32_t{2});
  const float more[] = {4.0f, -8.0f};
  compare("DECODED_ROWS", finish(std::move(rows), {{raw, 8}, {reinterpret_cast<const uint8_t*>(more), 8}}));

  Writer best = begin(Type::kDecoded, 4);
  best.number(uint64_t{70000}).number(uint64_t{81}).number(uint32_t{1}).number(uint32_t{2});
  best.number(12.5f).number(int32_t{400}).number(11.0f).number(int32_t{7}).number(-0.5f);
  compare("DECODED_TOP", finish(std::move(best)));

  Writer output = begin(Type::kOutputBytes, 5);
  output.number(uint32_t{3}).number(uint64_t{8589934592ULL});
  const uint8_t bytes[] = {0xDE, 0xAD, 0xBE, 0xEF};
  compare("OUTPUT_BYTES", finish(std::move(output), {{bytes, 4}}));

  Writer status = begin(Type::kStatusOk, 6);
  status.number(uint64_t{60000}).number(uint64_t{3}).number(uint64_t{75}).number(uint64_t{262144000});
  status.number(int32_t{-1}).text("line\n");
  compare("STATUS_OK", finish(std::move(status)));
  compare("BYE_OK", finish(begin(Type::kByeOk, 7)));
  compare("ERROR", error_reply(8, Failure(Code::kInference, "NeuronRuntimeV2_run gave 6", 6)));
}

void check_numbers() {
  for (const auto& [number, half] : std::vector<std::pair<float, uint16_t>>{
           {0.0f, 0x0000}, {-0.0f, 0x8000}, {1.0f, 0x3C00}, {-2.0f, 0xC000}, {65504.0f, 0x7BFF}, {65519.9f, 0x7BFF},
           {65520.0f, 0x7C00}, {1e30f, 0x7C00}, {0x1p-14f, 0x0400}, {0x1p-24f, 0x0001}, {0x1p-25f, 0x0000},
           {0x1.8p-25f, 0x0001}, {1.0f + 0x1p-11f, 0x3C00}, {1.0f + 0x3p-11f, 0x3C02}, {-INFINITY, 0xFC00}}) {
    expect(to_half(number) == half, "to_half(" + std::to_string(number) + ")");
  }
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float number = from_half(static_cast<uint16_t>(bits));
    if (!std::isnan(number)) expect(to_half(number) == bits, "float16 there and back");
  }
  expect(std::isnan(from_half(0x7E00)) && to_half(NAN) == 0x7E00, "float16 NaN");

  const float logits[] = {1, 3, NAN, 3, -INFINITY};
  const std::vector<Candidate> best = top(logits, 5, 4);
  expect(best[0].token == 2 && best[1].token == 1 && best[2].token == 3 && best[3].token == 0, "top: NaN, then ties by id");
  expect(std::isnan(log_sum_exp(logits, 5)), "log_sum_exp of NaN");
  const float great[] = {10000, 10000};
  expect(std::abs(log_sum_exp(great, 2) - 10000.6931f) < 1e-2f, "log_sum_exp of great values");
  const float none[] = {-INFINITY, -INFINITY};
  expect(log_sum_exp(none, 2) == -INFINITY, "log_sum_exp of nothing");
}

}  // namespace

int main() {
  try {
    check_requests();
    check_replies();
    check_steps();
    check_ports();
    check_packing();
    check_numbers();
  } catch (const Failure& failure) {
    expect(false, std::string("refused: ") + failure.what());
  }
  if (failures == 0) std::printf("golden bytes agree\n");
  return failures == 0 ? 0 : 1;
}
