#include "service.h"

#include <unistd.h>

#include "machine.h"
#include "selection.h"

#ifndef PARITY_BUILD_ID
#error "CMake gives the build id"
#endif

namespace parity {
namespace {

using Clock = std::chrono::steady_clock;

uint64_t us_since(Clock::time_point start) {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start).count());
}

// Takes as long for a token that is nearly right as for one that is wrong from the start.
bool same(const Digest& a, const Digest& b) {
  uint8_t difference = 0;
  for (size_t i = 0; i < a.size(); ++i) difference = static_cast<uint8_t>(difference | (a[i] ^ b[i]));
  return difference == 0;
}

std::string hex(const Digest& digest, size_t n) {
  static const char* digits = "0123456789abcdef";
  std::string text;
  for (size_t i = 0; i < n; ++i) {
    text += digits[digest[i] >> 4];
    text += digits[digest[i] & 15];
  }
  return text;
}

// Values of a tensor, ready to be sent.
struct Values {
  std::vector<Bytes> parts;
  std::vector<uint16_t> halves;  // what parts point into, unless they point into the tensor
};

// `n` values from each of `starts`: as float16 where that loses nothing, since what an NPU without float32 gives is such
// and the link is the slow part; else as float32 from where they lie.
Values gather(const Tensor& tensor, const std::vector<size_t>& starts, size_t n) {
  Values values;
  values.halves.resize(starts.size() * n);
  for (size_t i = 0; i < starts.size(); ++i) {
    if (!tensor.load_halves(starts[i], n, &values.halves[i * n])) {
      values.halves.clear();
      break;
    }
  }
  if (!values.halves.empty()) {
    values.parts.push_back({reinterpret_cast<const uint8_t*>(values.halves.data()), values.halves.size() * 2});
    return values;
  }
  for (const size_t start : starts) values.parts.push_back(tensor.load(start, n, nullptr));  // float32: nothing is copied
  return values;
}

Reply finish_values(Writer head, Values values) {
  Reply reply = finish(std::move(head), std::move(values.parts));
  if (!values.halves.empty()) reply.head[6] = kHalves;
  reply.halves = std::move(values.halves);
  return reply;
}

}  // namespace

const std::string& build_id() {
  static const std::string id = PARITY_BUILD_ID;
  return id;
}

Hello Service::authenticate(Bytes payload) const {
  Hello hello = parse_hello(payload);
  if (!same(hello.token, identity_.token)) throw Failure(Code::kBadToken, "the session token is another one");
  return hello;
}

void Service::check_models(const Hello& hello) const {
  const auto compare = [](const char* what, const Digest& asked, const Digest& here) {
    if (asked == here) return;
    throw Failure(Code::kModelMismatch,
                  std::string(what) + ": asked for sha256 " + hex(asked, 6) + "..., loaded is " + hex(here, 6) + "...");
  };
  compare("encoder", hello.encoder, identity_.encoder);
  compare("decoder", hello.decoder, identity_.decoder);
  compare("token embedding", hello.embedding, identity_.embedding);
}

Reply Service::welcome(uint32_t id) const {
  Writer writer = begin(Type::kHelloOk, id);
  writer.number(kProtocol).number(identity_.api);
  for (size_t i = 0; i < 8; ++i) {
    writer.number(static_cast<uint8_t>(std::stoul(build_id().substr(2 * i, 2), nullptr, 16)));
  }
  writer.number(static_cast<uint32_t>(getpid())).number(identity_.load_us);
  const Dims& d = identity_.dims;
  for (const uint32_t dim : {d.n_mels, d.n_frames, d.n_audio_ctx, d.n_audio_state, d.n_text_ctx, d.n_text_state, d.n_vocab}) {
    writer.number(dim);
  }
  writer.text(identity_.library).text(identity_.version);
  return finish(std::move(writer));
}

Reply Service::answer(const Frame& frame) {
  switch (frame.type()) {
    case Type::kEncode: return encode(frame);
    case Type::kSetEncoding: return set_encoding(frame);
    case Type::kDecode: return decode(frame);
    case Type::kOutput: return output(frame);
    case Type::kStatus: return status(frame);
    case Type::kBye: {
      parse_empty(frame.bytes());
      Reply reply = finish(begin(Type::kByeOk, frame.header.id));
      reply.exit = true;
      return reply;
    }
    case Type::kHello: throw Failure(Code::kBadRequest, "HELLO was said before");
    default: throw Failure(Code::kBadRequest, "unknown request type " + std::to_string(frame.header.type));
  }
}

Reply Service::encode(const Frame& frame) {
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

Reply Service::set_encoding(const Frame& frame) {
  whisper_.set_encoding(parse_set_encoding(frame.bytes(), whisper_.dims().encoding()));
  Writer writer = begin(Type::kEncodingSet, frame.header.id);
  writer.number(whisper_.encoding());
  return finish(std::move(writer));
}

Reply Service::decode(const Frame& frame) {
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

Reply Service::rows(const DecodeRequest& request, Writer head, uint64_t gather_us) {
  const auto started = Clock::now();
  const size_t n_vocab = whisper_.dims().n_vocab;
  std::vector<size_t> starts;
  for (const uint32_t row : request.rows) starts.push_back(row * n_vocab);
  Values values = gather(whisper_.decoder().output(), starts, n_vocab);
  head.number(gather_us + us_since(started)).number(static_cast<uint32_t>(request.rows.size()));
  head.number(static_cast<uint32_t>(n_vocab));
  return finish_values(std::move(head), std::move(values));
}

Reply Service::best(const DecodeRequest& request, Writer head, uint64_t gather_us) {
  const auto started = Clock::now();
  const auto n_vocab = static_cast<int32_t>(whisper_.dims().n_vocab);
  const Tensor& logits = whisper_.decoder().output();
  std::vector<float> scratch(logits.element == Element::kFloat16 ? whisper_.dims().n_vocab : 0);
  Writer body;
  for (const uint32_t row : request.rows) {
    const Bytes bytes = logits.load(size_t{row} * whisper_.dims().n_vocab, whisper_.dims().n_vocab, scratch.data());
    const auto* values = reinterpret_cast<const float*>(bytes.data);
    body.number(log_sum_exp(values, n_vocab));
    for (const Candidate& candidate : top(values, n_vocab, request.top_k)) {
      body.number(candidate.token).number(candidate.logit);
    }
  }
  head.number(gather_us + us_since(started)).number(static_cast<uint32_t>(request.rows.size()));
  head.number(request.top_k).raw(body.bytes().data(), body.bytes().size());
  return finish(std::move(head));
}

Reply Service::output(const Frame& frame) const {
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

Reply Service::status(const Frame& frame) const {
  parse_empty(frame.bytes());
  Writer writer = begin(Type::kStatusOk, frame.header.id);
  writer.number(us_since(started_) / 1000).number(n_encode_).number(n_decode_);
  writer.number(resident_bytes()).number(temperature_millidegrees());
  writer.text(tail(identity_.log, 2000));
  return finish(std::move(writer));
}

}  // namespace parity
