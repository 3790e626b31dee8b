#include "stepping.h"

#include "values.h"

namespace parity {
namespace {

using Clock = std::chrono::steady_clock;

[[noreturn]] void refuse(const std::string& text) { throw Failure(Code::kBadRequest, text); }

Reply numbers(const Frame& frame, const std::vector<float>& values) {
  Writer writer = begin(Type::kNumbers, frame.header.id);
  writer.number(static_cast<uint32_t>(values.size())).raw(values.data(), values.size() * 4);
  return finish(std::move(writer));
}

}  // namespace

Reply Stepping::answer(const Frame& frame) {
  if (frame.type() == Type::kIoMap) return io_map(frame);
  if (frame.type() == Type::kLayout) return lay_out(frame);
  if (!stepped_.is_laid_out()) refuse("LAYOUT comes first");
  switch (frame.type()) {
    case Type::kEncode: return encode(frame);
    case Type::kSetEncoding: return set_encoding(frame);
    case Type::kSetCross: return set_cross(frame);
    case Type::kBegin: return begin_on(frame);
    case Type::kFeed: return feed(frame);
    case Type::kRewind: return rewind(frame);
    case Type::kLook: return look(frame);
    case Type::kFill: return fill(frame);
    case Type::kReplace: return replace(frame);
    default: refuse("unknown request type " + std::to_string(frame.header.type));
  }
}

Reply Stepping::io_map(const Frame& frame) const {
  parse_empty(frame.bytes());
  Writer writer = begin(Type::kIoMapOk, frame.header.id);
  for (const auto* sizes : {&stepped_.encoder().input_sizes(), &stepped_.encoder().output_sizes(),
                            &stepped_.decoder().input_sizes(), &stepped_.decoder().output_sizes()}) {
    writer.number(static_cast<uint32_t>(sizes->size()));
    for (const size_t size : *sizes) writer.number(uint64_t{size});
  }
  return finish(std::move(writer));
}

Reply Stepping::lay_out(const Frame& frame) {
  stepped_.lay_out(parse_layout(frame.bytes()));
  return position(frame);
}

Reply Stepping::encode(const Frame& frame) {
  const EncodeRequest request = parse_encode(frame.bytes(), stepped_.n_features());
  const uint64_t device_us = stepped_.encode(request.features);
  n_encode_ += 1;
  Reply held;
  if (request.want_output) held.scratch = stepped_.encoded();
  Writer writer = begin(Type::kEncoded, frame.header.id);
  writer.number(device_us).number(stepped_.encoding()).number(static_cast<uint32_t>(held.scratch.size()));
  if (!request.want_output) return finish(std::move(writer));
  Reply reply = finish_values(std::move(writer), gather(held.scratch));
  reply.scratch = std::move(held.scratch);  // moving keeps its memory where parts point to
  return reply;
}

Reply Stepping::set_encoding(const Frame& frame) {
  const Bytes values = parse_set_encoding(frame.bytes(), stepped_.n_encoding());
  if (values.size == 0) refuse("SET_ENCODING: this decoder takes no encoder output: SET_CROSS");
  stepped_.set_encoding(values);
  return set(frame);
}

Reply Stepping::set_cross(const Frame& frame) {
  const SetCrossRequest request = parse_set_cross(frame.bytes(), stepped_.layout().n_layers, stepped_.n_cross());
  stepped_.set_cross(request.index, request.values);
  return set(frame);
}

Reply Stepping::set(const Frame& frame) const {
  Writer writer = begin(Type::kEncodingSet, frame.header.id);
  writer.number(stepped_.encoding());
  return finish(std::move(writer));
}

Reply Stepping::begin_on(const Frame& frame) {
  const uint32_t encoding = parse_number(frame.bytes());
  if (encoding == 0 || encoding != stepped_.encoding()) {
    const std::string newest = stepped_.encoding() == 0 ? "there is none" : "the newest is " + std::to_string(stepped_.encoding());
    throw Failure(Code::kNoEncoding, "encoding " + std::to_string(encoding) + " is not kept: " + newest);
  }
  stepped_.begin();
  return position(frame);
}

Reply Stepping::feed(const Frame& frame) {
  const auto started = Clock::now();
  const LayoutForm& layout = stepped_.layout();
  const FeedRequest request =
      parse_feed(frame.bytes(), stepped_.n_token_row(), stepped_.n_position_row(), layout.n_vocab);
  if (stepped_.position() >= layout.slots) refuse("FEED: the cache is full: it has room for " + std::to_string(layout.slots) + " tokens");
  const uint64_t device_us = stepped_.feed(request.token, request.token_row, request.position_row);
  n_decode_ += 1;
  Writer body, head = begin(Type::kDecoded, frame.header.id);
  Values values;
  if (request.top_k > 0) {
    write_best(body, stepped_.logits().data(), layout.n_vocab, request.top_k);
  } else {
    values = gather(stepped_.logits());
  }
  const uint64_t around_us = us_since(started);
  head.number(device_us).number(around_us > device_us ? around_us - device_us : 0).number(uint32_t{1});
  head.number(request.top_k > 0 ? request.top_k : layout.n_vocab).raw(body.bytes().data(), body.bytes().size());
  return request.top_k > 0 ? finish(std::move(head)) : finish_logits(std::move(head), std::move(values));
}

Reply Stepping::rewind(const Frame& frame) {
  const uint32_t count = parse_number(frame.bytes());
  if (count > stepped_.position()) {
    refuse("REWIND: " + std::to_string(count) + " tokens to take back where " + std::to_string(stepped_.position()) + " were fed");
  }
  stepped_.rewind(count);
  return position(frame);
}

Reply Stepping::look(const Frame& frame) const {
  const LookRequest request = parse_look(frame.bytes(), stepped_.layout().n_layers);
  return numbers(frame, request.what == Look::kWritten ? stepped_.written() : stepped_.cross(request.index));
}

Reply Stepping::fill(const Frame& frame) {
  stepped_.fill(parse_fill(frame.bytes()));
  return position(frame);
}

Reply Stepping::replace(const Frame& frame) {
  const ReplaceRequest request = parse_replace(frame.bytes());
  if (request.which >= stepped_.n_inputs()) refuse("REPLACE: the decoder has " + std::to_string(stepped_.n_inputs()) + " inputs");
  const size_t expected = stepped_.n_numbers(request.which), n = request.values.size();
  if (n > 1 && n != expected) refuse("REPLACE: expected 1 or " + std::to_string(expected) + " values, found " + std::to_string(n));
  stepped_.replace(request.which, request.values);
  return position(frame);
}

Reply Stepping::position(const Frame& frame) const {
  Writer writer = begin(Type::kPosition, frame.header.id);
  writer.number(stepped_.position());
  return finish(std::move(writer));
}

}  // namespace parity
