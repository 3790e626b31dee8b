// The command line.
#pragma once

#include <string>
#include <vector>

#include "frame.h"
#include "runtime.h"
#include "server.h"
#include "whisper.h"

namespace parity {

struct Options {
  bool version = false, daemon = false;
  bool stepped = false;  // a decoder with a KV cache: rows are looked up by the client, and there is no table
  Paths paths;
  Digest encoder_sha256{}, decoder_sha256{}, embedding_sha256{};
  Dims dims{};
  std::string listen, token_file, lock, log;
  std::string owner = "unnamed";
  std::vector<std::string> runtimes;
  Api api = Api::kAuto;
  Patience patience;
};

// Throws Failure kBadRequest.
Options parse_options(const std::vector<std::string>& words);

// 32 bytes written as 64 hexadecimal digits. Throws Failure kBadRequest, with `what` in front.
Digest parse_digest(const std::string& text, const std::string& what);

}  // namespace parity
