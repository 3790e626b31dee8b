#include "service.h"

#include <unistd.h>

#include "machine.h"

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
    case Type::kStatus: return status(frame);
    case Type::kBye: {
      parse_empty(frame.bytes());
      Reply reply = finish(begin(Type::kByeOk, frame.header.id));
      reply.exit = true;
      return reply;
    }
    case Type::kHello: throw Failure(Code::kBadRequest, "HELLO was said before");
    default: return models_.answer(frame);
  }
}

Reply Service::status(const Frame& frame) const {
  parse_empty(frame.bytes());
  Writer writer = begin(Type::kStatusOk, frame.header.id);
  writer.number(us_since(started_) / 1000).number(models_.n_encode()).number(models_.n_decode());
  writer.number(resident_bytes()).number(temperature_millidegrees());
  writer.text(tail(identity_.log, 2000));
  return finish(std::move(writer));
}

}  // namespace parity
