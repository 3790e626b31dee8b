// The command line.
#pragma once

#include <string>
#include <vector>

#include "runtime.h"

namespace parity {

struct Arguments {
  bool help = false;
  std::string model, language = "auto", task = "transcribe";
  std::string decode;  // decode.json; empty: the one beside model.json, if there is one
  std::string dump;    // folder; empty: nothing is written
  std::vector<std::string> libraries, sounds;
  Api api = Api::kAuto;
};

extern const char kUsage[];

// Throws Failure kBadRequest.
Arguments parse_arguments(const std::vector<std::string>& words);

}  // namespace parity
