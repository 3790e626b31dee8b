// Protocol 2: frames and what is in them. Pure functions over bytes; see PROTOCOL.md.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "bytes.h"

namespace parity {

constexpr uint16_t kProtocol = 2;
constexpr size_t kHeaderSize = 12;
constexpr uint32_t kMaxRequest = 64u << 20;
// Nothing that may come before a good HELLO is longer than this.
constexpr uint32_t kMaxHello = 8192;
constexpr uint32_t kMaxTopK = 64;
// Flags of a reply: its values are float16, and those packed (packing.h).
constexpr uint16_t kHalves = 1, kPacked = 2;

enum class Type : uint16_t {
  kHello = 0x0001,
  kEncode = 0x0002,
  kSetEncoding = 0x0003,
  kDecode = 0x0004,
  kOutput = 0x0005,
  kStatus = 0x0006,
  kBye = 0x0007,
  kIoMap = 0x0008,
  kLayout = 0x0009,
  kBegin = 0x000A,
  kFeed = 0x000B,
  kRewind = 0x000C,
  kLook = 0x000D,
  kFill = 0x000E,
  kReplace = 0x000F,
  kSetCross = 0x0010,
  kHelloOk = 0x8001,
  kEncoded = 0x8002,
  kEncodingSet = 0x8003,
  kDecoded = 0x8004,
  kOutputBytes = 0x8005,
  kStatusOk = 0x8006,
  kByeOk = 0x8007,
  kIoMapOk = 0x8008,
  kPosition = 0x800C,
  kNumbers = 0x800D,
  kError = 0xFFFF,
};

struct Header {
  uint32_t length = 0;
  uint16_t type = 0;
  uint16_t flags = 0;
  uint32_t id = 0;
};

Header parse_header(const std::array<uint8_t, kHeaderSize>& bytes);

struct Frame {
  Header header;
  std::vector<uint8_t> payload;

  Type type() const { return static_cast<Type>(header.type); }
  Bytes bytes() const { return {payload.data(), payload.size()}; }
};

// Puts frames together from whatever pieces a socket gives. Memory grows with what came, not with what was announced.
class FrameReader {
 public:
  // Frames with a longer payload are refused; `code` and `what` say why.
  void set_limit(uint32_t limit, Code code, std::string what);
  // Where the next bytes go, and how many at most; valid until the next call. Never empty while !complete().
  std::pair<uint8_t*, size_t> space();
  // `size` bytes were put there. Throws Failure when they cannot belong to a request.
  void filled(size_t size);
  bool complete() const { return has_header_ && received_ == header_.length; }
  // Whether a part of a frame has come.
  bool inside() const { return received_ > 0 || has_header_; }
  // The complete frame; the reader is empty afterwards.
  Frame take();
  // Id of the frame that is being read, for an error reply; 0 before its header came.
  uint32_t id() const { return has_header_ ? header_.id : 0; }

 private:
  void check(const Header& header) const;

  std::array<uint8_t, kHeaderSize> head_{};
  Header header_;
  bool has_header_ = false;
  size_t received_ = 0;
  std::vector<uint8_t> payload_;
  uint32_t limit_ = kMaxRequest;
  Code code_ = Code::kTooLarge;
  std::string what_ = "requests are at most 64 MiB";
};

using Digest = std::array<uint8_t, 32>;

struct Hello {
  Digest token{}, encoder{}, decoder{}, embedding{};
  std::string owner;
};

struct EncodeRequest {
  bool want_output = false;
  Bytes features;  // f32, not aligned
};

struct DecodeRequest {
  uint32_t encoding = 0, top_k = 0;
  std::vector<int32_t> tokens;
  std::vector<uint32_t> rows;
};

struct OutputRequest {
  uint32_t component = 0, index = 0;
  uint64_t offset = 0, length = 0;
};

struct FeedRequest {
  int32_t token = 0;
  uint32_t top_k = 0;
  std::vector<float> token_row, position_row;  // looked up outside, where the file takes them
};

enum class Look : uint32_t { kWritten = 0, kCross = 1 };

struct LookRequest {
  Look what = Look::kWritten;
  uint32_t index = 0;
};

struct ReplaceRequest {
  uint32_t which = 0;
  std::vector<float> values;  // none: the right ones again
};

struct SetCrossRequest {
  uint32_t index = 0;
  Bytes values;  // f32, not aligned
};

// Each throws Failure: kBadRequest, and parse_hello kProtocolVersion.
Hello parse_hello(Bytes payload);
EncodeRequest parse_encode(Bytes payload, size_t n_values);
Bytes parse_set_encoding(Bytes payload, size_t n_values);
DecodeRequest parse_decode(Bytes payload, uint32_t n_text_ctx, uint32_t n_vocab);
OutputRequest parse_output(Bytes payload);
void parse_empty(Bytes payload);
uint32_t parse_number(Bytes payload);  // BEGIN, REWIND
FeedRequest parse_feed(Bytes payload, size_t n_token_row, size_t n_position_row, uint32_t n_vocab);
LookRequest parse_look(Bytes payload, uint32_t n_layers);
float parse_fill(Bytes payload);
ReplaceRequest parse_replace(Bytes payload);
SetCrossRequest parse_set_cross(Bytes payload, uint32_t n_layers, size_t n_values);

// A reply: bytes of its own, then parts that lie elsewhere and stay there until it is sent.
struct Reply {
  std::vector<uint8_t> head;
  std::vector<Bytes> parts;
  std::vector<float> scratch;  // what parts may point into
  std::vector<uint16_t> halves;
  bool hang_up = false;
  bool exit = false;
};

// Begin a reply; its length is put in by `finish`.
Writer begin(Type type, uint32_t id);
// `parts` follow the writer's bytes in the frame.
Reply finish(Writer writer, std::vector<Bytes> parts = {});
Reply error_reply(uint32_t id, const Failure& failure);

}  // namespace parity
