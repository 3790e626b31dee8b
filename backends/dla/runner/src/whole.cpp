#include "whole.h"

#include "values.h"

namespace parity {
namespace {

using Clock = std::chrono::steady_clock;

}  // namespace

Reply Whole::answer(const Frame& frame) {
  switch (frame.type()) {
    case Type::kEncode: return encode(frame);
    case Type::kSetEncoding: return set_encoding(frame);
    case Type::kDecode: return decode(frame);
    case Type::kOutput: return output(frame);
    default: throw Failure(Code::kBadRequest, "unknown request type " + std::to_string(frame.header.type));
  }
}

Reply Whole::encode(const Frame& frame) {
  const size_t n_values = whisper_.dims().encoding();
  const EncodeRequest request = parse_encode(frame.bytes(), whisper_.dims().features());
  const uint64_t device_us = whisper_.encode(request.features);
  n_encode_ += 1;
  Writer writer = begin(Type::kEncoded, frame.header.id);
  writer.number(device_us).number(whisper_.encoding());
  writer.number(static_cast<uint32_t>(request.want_output ? n_values : 0));
  if (!request.want_output) return finish(std::move(writer));
  return finish_values(std::move(writer), gather(whisper_.encoder().output(), {0}, n_values));
}

Reply Whole::set_encoding(const Frame& frame) {
  whisper_.set_encoding(parse_set_encoding(frame.bytes(), whisper_.dims().encoding()));
  Writer writer = begin(Type::kEncodingSet, frame.header.id);
  writer.number(whisper_.encoding());
  return finish(std::move(writer));
}

Reply Whole::decode(const Frame& frame) {
  const DecodeRequest request = parse_decode(frame.bytes(), whisper_.dims().n_text_ctx, whisper_.dims().n_vocab);
  if (whisper_.encoding() == 0 || request.encoding != whisper_.encoding()) {
    const std::string newest = whisper_.encoding() == 0 ? "there is none" : "the newest is " + std::to_string(whisper_.encoding());
    throw Failure(Code::kNoEncoding, "encoding " + std::to_string(request.encoding) + " is not kept: " + newest);
  }
  const auto started = Clock::now();
  const uint64_t device_us = whisper_.decode(request.tokens);
  n_decode_ += 1;
  const uint64_t around_us = us_since(started);
  Writer head = begin(Type::kDecoded, frame.header.id);
  head.number(device_us);
  const uint64_t gather_us = around_us > device_us ? around_us - device_us : 0;
  return request.top_k == 0 ? rows(request, std::move(head), gather_us) : best(request, std::move(head), gather_us);
}

Reply Whole::rows(const DecodeRequest& request, Writer head, uint64_t gather_us) {
  const auto started = Clock::now();
  const size_t n_vocab = whisper_.dims().n_vocab;
  std::vector<size_t> starts;
  for (const uint32_t row : request.rows) starts.push_back(row * n_vocab);
  Values values = gather(whisper_.decoder().output(), starts, n_vocab);
  head.number(gather_us + us_since(started)).number(static_cast<uint32_t>(request.rows.size()));
  head.number(static_cast<uint32_t>(n_vocab));
  return finish_logits(std::move(head), std::move(values));
}

Reply Whole::best(const DecodeRequest& request, Writer head, uint64_t gather_us) {
  const auto started = Clock::now();
  const Tensor& logits = whisper_.decoder().output();
  std::vector<float> scratch(logits.element == Element::kFloat16 ? whisper_.dims().n_vocab : 0);
  Writer body;
  for (const uint32_t row : request.rows) {
    const Bytes bytes = logits.load(size_t{row} * whisper_.dims().n_vocab, whisper_.dims().n_vocab, scratch.data());
    const auto* values = reinterpret_cast<const float*>(bytes.data);
    write_best(body, values, whisper_.dims().n_vocab, request.top_k);
  }
  head.number(gather_us + us_since(started)).number(static_cast<uint32_t>(request.rows.size()));
  head.number(request.top_k).raw(body.bytes().data(), body.bytes().size());
  return finish(std::move(head));
}

Reply Whole::output(const Frame& frame) const {
  const OutputRequest request = parse_output(frame.bytes());
  const Graph& graph = request.component == 0 ? whisper_.encoder() : whisper_.decoder();
  const std::vector<Tensor>& outputs = graph.outputs();
  if (!graph.has_run()) throw Failure(Code::kBadRequest, "OUTPUT: this component has not run yet");
  if (request.index >= outputs.size()) {
    throw Failure(Code::kBadRequest, "OUTPUT: the component has " + std::to_string(outputs.size()) + " outputs");
  }
  const Buffer& memory = outputs[request.index].memory;
  if (request.offset > memory.size() || request.length > memory.size() - request.offset) {
    throw Failure(Code::kBadRequest, "OUTPUT: the output has " + std::to_string(memory.size()) + " bytes");
  }
  Writer writer = begin(Type::kOutputBytes, frame.header.id);
  writer.number(static_cast<uint32_t>(outputs.size())).number(static_cast<uint64_t>(memory.size()));
  return finish(std::move(writer), {{memory.data() + request.offset, static_cast<size_t>(request.length)}});
}

}  // namespace parity
