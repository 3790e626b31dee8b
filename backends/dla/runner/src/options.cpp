#include "options.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <functional>
#include <map>

namespace parity {
namespace {

[[noreturn]] void refuse(const std::string& text) { throw Failure(Code::kBadRequest, text); }

unsigned long number(const std::string& text, const std::string& what, unsigned long greatest) {
  char* end = nullptr;
  errno = 0;
  const unsigned long value = std::strtoul(text.c_str(), &end, 10);
  const bool digits = !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
  if (!digits || errno != 0 || value > greatest) refuse(what + ": expected a number, at most " + std::to_string(greatest));
  return value;
}

Dims parse_dims(const std::string& text) {
  Dims dims{};
  size_t start = 0;
  for (uint32_t* field : {&dims.n_mels, &dims.n_frames, &dims.n_audio_ctx, &dims.n_audio_state, &dims.n_text_ctx,
                          &dims.n_text_state, &dims.n_vocab}) {
    if (start > text.size()) refuse("--dims: expected seven numbers with commas between them");
    const size_t end = std::min(text.find(',', start), text.size());
    *field = static_cast<uint32_t>(number(text.substr(start, end - start), "--dims", 1'000'000));
    if (*field == 0) refuse("--dims: each must be greater than 0");
    start = end + 1;
  }
  if (start != text.size() + 1) refuse("--dims: expected seven numbers with commas between them");
  // A whole output must fit into one reply, and a whole input into one request.
  if (dims.logits() > (1u << 30) / 4 * 3 || dims.encoding() * 4 > kMaxRequest || dims.features() * 4 + 4 > kMaxRequest ||
      dims.embeddings() > (1u << 28)) {
    refuse("--dims: too large for this protocol");
  }
  return dims;
}

Api parse_api(const std::string& text) {
  if (text == "auto") return Api::kAuto;
  if (text == "v1") return Api::kV1;
  if (text == "v2") return Api::kV2;
  refuse("--api: expected auto, v2 or v1");
}

std::chrono::seconds seconds(const std::string& text, const std::string& what) {
  return std::chrono::seconds(number(text, what, 1'000'000));
}

using Take = std::function<void(const std::string&)>;

std::map<std::string, Take> takers(Options& o) {
  return {
      {"--encoder", [&](const std::string& v) { o.paths.encoder = v; }},
      {"--decoder", [&](const std::string& v) { o.paths.decoder = v; }},
      {"--embedding", [&](const std::string& v) { o.paths.embedding = v; }},
      {"--encoder-sha256", [&](const std::string& v) { o.encoder_sha256 = parse_digest(v, "--encoder-sha256"); }},
      {"--decoder-sha256", [&](const std::string& v) { o.decoder_sha256 = parse_digest(v, "--decoder-sha256"); }},
      {"--embedding-sha256", [&](const std::string& v) { o.embedding_sha256 = parse_digest(v, "--embedding-sha256"); }},
      {"--dims", [&](const std::string& v) { o.dims = parse_dims(v); }},
      {"--listen", [&](const std::string& v) { o.listen = v; }},
      {"--token-file", [&](const std::string& v) { o.token_file = v; }},
      {"--runtime", [&](const std::string& v) { o.runtimes.push_back(v); }},
      {"--api", [&](const std::string& v) { o.api = parse_api(v); }},
      {"--lock", [&](const std::string& v) { o.lock = v; }},
      {"--log", [&](const std::string& v) { o.log = v; }},
      {"--idle-s", [&](const std::string& v) { o.patience.idle = seconds(v, "--idle-s"); }},
      {"--linger-s", [&](const std::string& v) { o.patience.linger = seconds(v, "--linger-s"); }},
      {"--hello-s", [&](const std::string& v) { o.patience.hello = seconds(v, "--hello-s"); }},
      {"--owner", [&](const std::string& v) { o.owner = printable(v, 256); }},
  };
}

const char* const kRequired[] = {"--encoder",    "--encoder-sha256",   "--decoder", "--decoder-sha256",
                                 "--embedding",  "--embedding-sha256", "--dims",    "--listen",
                                 "--token-file", "--lock",             "--log"};

}  // namespace

Digest parse_digest(const std::string& text, const std::string& what) {
  Digest digest{};
  if (text.size() != 64 || text.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos) {
    refuse(what + ": expected 64 hexadecimal digits");
  }
  for (size_t i = 0; i < digest.size(); ++i) {
    digest[i] = static_cast<uint8_t>(std::strtoul(text.substr(2 * i, 2).c_str(), nullptr, 16));
  }
  return digest;
}

Options parse_options(const std::vector<std::string>& words) {
  Options options;
  const std::map<std::string, Take> known = takers(options);
  const std::map<std::string, bool*> flags = {
      {"--version", &options.version}, {"--daemon", &options.daemon}, {"--stepped", &options.stepped}};
  std::map<std::string, bool> given;
  for (size_t i = 0; i < words.size(); ++i) {
    const auto flag = flags.find(words[i]);
    if (flag != flags.end()) {
      *flag->second = true;
      continue;
    }
    const auto found = known.find(words[i]);
    if (found == known.end()) refuse("unknown option " + words[i]);
    if (i + 1 == words.size()) refuse(words[i] + " takes a value");
    given[words[i]] = true;
    found->second(words[++i]);
  }
  for (const char* name : kRequired) {
    const bool is_table = std::string(name).rfind("--embedding", 0) == 0;
    if (!options.version && !given[name] && !(options.stepped && is_table)) refuse(std::string(name) + " is missing");
  }
  return options;
}

}  // namespace parity
