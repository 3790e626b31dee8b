#include "frame.h"

#include <algorithm>
#include <cmath>

#include "half.h"

namespace parity {
namespace {

constexpr size_t kStep = 64u << 10;

Digest digest(Reader& reader) {
  Digest found;
  std::memcpy(found.data(), reader.take(found.size()).data, found.size());
  return found;
}

[[noreturn]] void refuse(const std::string& text) { throw Failure(Code::kBadRequest, text); }

std::string count(uint64_t number) { return std::to_string(number); }

}  // namespace

Header parse_header(const std::array<uint8_t, kHeaderSize>& bytes) {
  Reader reader({bytes.data(), bytes.size()});
  Header header;
  header.length = reader.number<uint32_t>();
  header.type = reader.number<uint16_t>();
  header.flags = reader.number<uint16_t>();
  header.id = reader.number<uint32_t>();
  return header;
}

void FrameReader::set_limit(uint32_t limit, Code code, std::string what) {
  limit_ = limit;
  code_ = code;
  what_ = std::move(what);
}

std::pair<uint8_t*, size_t> FrameReader::space() {
  if (!has_header_) return {head_.data() + received_, kHeaderSize - received_};
  if (received_ == payload_.size()) {
    const size_t wanted = received_ + std::max(received_, kStep);
    payload_.resize(std::min<size_t>(header_.length, wanted));
  }
  return {payload_.data() + received_, payload_.size() - received_};
}

void FrameReader::filled(size_t size) {
  received_ += size;
  if (has_header_ || received_ < kHeaderSize) return;
  header_ = parse_header(head_);
  has_header_ = true;
  received_ = 0;
  payload_.clear();
  check(header_);
}

void FrameReader::check(const Header& header) const {
  if (header.length > kMaxRequest) {
    throw Failure(Code::kTooLarge, "requests are at most 64 MiB, this one says " + count(header.length) + " bytes");
  }
  if (header.length > limit_) throw Failure(code_, what_ + ", this one says " + count(header.length) + " bytes");
}

Frame FrameReader::take() {
  Frame frame{header_, std::move(payload_)};
  payload_ = {};
  has_header_ = false;
  received_ = 0;
  return frame;
}

Hello parse_hello(Bytes payload) {
  Reader reader(payload);
  const auto version = reader.number<uint16_t>();
  if (version != kProtocol) {
    throw Failure(Code::kProtocolVersion,
                  "the runner speaks protocol " + count(kProtocol) + ", the client " + count(version));
  }
  if (reader.number<uint16_t>() != 0) refuse("HELLO: the field after the version must be 0");
  Hello hello;
  hello.token = digest(reader);
  hello.encoder = digest(reader);
  hello.decoder = digest(reader);
  hello.embedding = digest(reader);
  hello.owner = printable(reader.text());
  reader.finish();
  return hello;
}

EncodeRequest parse_encode(Bytes payload, size_t n_values) {
  Reader reader(payload);
  EncodeRequest request;
  const auto want = reader.number<uint32_t>();
  if (want > 1) refuse("ENCODE: want_output must be 0 or 1");
  request.want_output = want == 1;
  if (reader.left() != n_values * 4) {
    refuse("ENCODE: expected " + count(n_values) + " float32 values, found " + count(reader.left()) + " bytes");
  }
  request.features = reader.take(n_values * 4);
  return request;
}

Bytes parse_set_encoding(Bytes payload, size_t n_values) {
  if (payload.size != n_values * 4) {
    refuse("SET_ENCODING: expected " + count(n_values) + " float32 values, found " + count(payload.size) + " bytes");
  }
  return payload;
}

DecodeRequest parse_decode(Bytes payload, uint32_t n_text_ctx, uint32_t n_vocab) {
  Reader reader(payload);
  DecodeRequest request;
  request.encoding = reader.number<uint32_t>();
  request.top_k = reader.number<uint32_t>();
  const auto n_tokens = reader.number<uint32_t>();
  const auto n_rows = reader.number<uint32_t>();
  if (request.top_k > std::min(kMaxTopK, n_vocab)) refuse("DECODE: top_k is " + count(request.top_k) + ", at most 64");
  if (n_tokens == 0 || n_tokens > n_text_ctx) {
    refuse("DECODE: " + count(n_tokens) + " tokens, expected 1 to " + count(n_text_ctx));
  }
  if (n_rows == 0 || n_rows > n_text_ctx) {
    refuse("DECODE: " + count(n_rows) + " rows, expected 1 to " + count(n_text_ctx));
  }
  for (uint32_t i = 0; i < n_tokens; ++i) {
    request.tokens.push_back(reader.number<int32_t>());
    if (request.tokens.back() < 0 || static_cast<uint32_t>(request.tokens.back()) >= n_vocab) {
      refuse("DECODE: token " + std::to_string(request.tokens.back()) + " is outside the vocabulary of " + count(n_vocab));
    }
  }
  for (uint32_t i = 0; i < n_rows; ++i) {
    request.rows.push_back(reader.number<uint32_t>());
    if (request.rows.back() >= n_tokens) refuse("DECODE: row " + count(request.rows.back()) + " is behind the last token");
  }
  reader.finish();
  return request;
}

OutputRequest parse_output(Bytes payload) {
  Reader reader(payload);
  OutputRequest request;
  request.component = reader.number<uint32_t>();
  request.index = reader.number<uint32_t>();
  request.offset = reader.number<uint64_t>();
  request.length = reader.number<uint64_t>();
  reader.finish();
  if (request.component > 1) refuse("OUTPUT: component must be 0 (encoder) or 1 (decoder)");
  return request;
}

void parse_empty(Bytes payload) { Reader(payload).finish(); }

uint32_t parse_number(Bytes payload) {
  Reader reader(payload);
  const auto number = reader.number<uint32_t>();
  reader.finish();
  return number;
}

FeedRequest parse_feed(Bytes payload, size_t n_token_row, size_t n_position_row, uint32_t n_vocab) {
  Reader reader(payload);
  FeedRequest request;
  request.token = reader.number<int32_t>();
  request.top_k = reader.number<uint32_t>();
  const auto width = reader.number<uint32_t>();
  if (request.token < 0 || static_cast<uint32_t>(request.token) >= n_vocab) {
    refuse("FEED: token " + std::to_string(request.token) + " is outside the vocabulary of " + count(n_vocab));
  }
  if (request.top_k > std::min(kMaxTopK, n_vocab)) refuse("FEED: top_k is " + count(request.top_k) + ", at most 64");
  if (width != 2 && width != 4) refuse("FEED: values of " + count(width) + " bytes, expected 2 or 4");
  if (reader.left() != (n_token_row + n_position_row) * width) {
    refuse("FEED: expected " + count(n_token_row) + " and " + count(n_position_row) + " values, found " + count(reader.left()) + " bytes");
  }
  for (auto [row, n] : {std::pair{&request.token_row, n_token_row}, std::pair{&request.position_row, n_position_row}}) {
    row->resize(n);
    const Bytes values = reader.take(n * width);
    if (width == 2) {
      from_half(values.data, row->data(), n);
    } else if (n > 0) {
      std::memcpy(row->data(), values.data, values.size);
    }
  }
  return request;
}

LookRequest parse_look(Bytes payload, uint32_t n_layers) {
  Reader reader(payload);
  LookRequest request;
  const auto what = reader.number<uint32_t>();
  request.index = reader.number<uint32_t>();
  reader.finish();
  if (what > 1) refuse("LOOK: what must be 0 (written) or 1 (cross)");
  request.what = static_cast<Look>(what);
  if (request.index >= 2 * n_layers) refuse("LOOK: index " + count(request.index) + " of " + count(2 * n_layers));
  return request;
}

float parse_fill(Bytes payload) {
  Reader reader(payload);
  const auto value = reader.number<float>();
  reader.finish();
  if (!std::isfinite(value)) refuse("FILL: not a finite number");
  return value;
}

ReplaceRequest parse_replace(Bytes payload) {
  Reader reader(payload);
  ReplaceRequest request;
  request.which = reader.number<uint32_t>();
  if (reader.left() % 4 != 0) refuse("REPLACE: " + count(reader.left()) + " bytes are no whole number of float32 values");
  request.values.resize(reader.left() / 4);
  const Bytes values = reader.take(reader.left());
  if (values.size > 0) std::memcpy(request.values.data(), values.data, values.size);
  return request;
}

SetCrossRequest parse_set_cross(Bytes payload, uint32_t n_layers, size_t n_values) {
  Reader reader(payload);
  SetCrossRequest request;
  request.index = reader.number<uint32_t>();
  if (request.index >= 2 * n_layers) refuse("SET_CROSS: index " + count(request.index) + " of " + count(2 * n_layers));
  if (n_values == 0 || reader.left() != n_values * 4) {
    refuse("SET_CROSS: expected " + count(n_values) + " float32 values, found " + count(reader.left()) + " bytes");
  }
  request.values = reader.take(n_values * 4);
  return request;
}

Writer begin(Type type, uint32_t id) {
  Writer writer;
  writer.number<uint32_t>(0).number(static_cast<uint16_t>(type)).number<uint16_t>(0).number(id);
  return writer;
}

Reply finish(Writer writer, std::vector<Bytes> parts) {
  Reply reply;
  reply.head = std::move(writer.bytes());
  reply.parts = std::move(parts);
  uint64_t length = reply.head.size() - kHeaderSize;
  for (const Bytes& part : reply.parts) length += part.size;
  if (length > UINT32_MAX) throw Failure(Code::kTooLarge, "the reply would be longer than 4 GiB");
  const auto field = static_cast<uint32_t>(length);
  std::memcpy(reply.head.data(), &field, sizeof field);
  return reply;
}

Reply error_reply(uint32_t id, const Failure& failure) {
  Writer writer = begin(Type::kError, id);
  writer.number(static_cast<uint32_t>(failure.code())).number<int32_t>(failure.runtime_code()).text(failure.what());
  return finish(std::move(writer));
}

}  // namespace parity
