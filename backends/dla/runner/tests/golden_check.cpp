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
    check_numbers();
  } catch (const Failure& failure) {
    expect(false, std::string("refused: ") + failure.what());
  }
  if (failures == 0) std::printf("golden bytes agree\n");
  return failures == 0 ? 0 : 1;
}
