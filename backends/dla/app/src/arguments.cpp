#include "arguments.h"

#include <functional>
#include <map>

namespace parity {

const char kUsage[] =
    R"(Usage: parity-whisper --model FOLDER [OPTION]... SOUND...

Speech to text by Whisper on the Neuron runtime: a line of JSON for each sound, and a last one {"finished": true, ...}.

  --model FOLDER      model.json, its DLA files, token embedding, mel filters and vocabulary
  --language CODE     what is spoken, such as en or zh; auto (default): detect it
  --task TASK         transcribe (default) or translate
  --decode FILE       rules of decoding (JSON); default: decode.json in FOLDER, else plain greedy decoding
  --dump FOLDER       write N.W.input_features.f32 and N.W.encoder_output.f32 of sound N, window W
  --library FILE      libneuron_runtime.so; may be repeated; default: where devices have it
  --api API           auto (default), v1 or v2 of that library
  --help              this text
  SOUND               WAV: PCM of 8, 16, 24 or 32 bit or float, mono or stereo, any rate

Exit code: 0 all sounds have a text, 1 inference failed, 2 bad command line or sound, 3 no runtime or no usable model.
)";

namespace {

[[noreturn]] void refuse(const std::string& text) { throw Failure(Code::kBadRequest, text + "; see --help"); }

Api api_of(const std::string& text) {
  if (text == "auto") return Api::kAuto;
  if (text == "v1") return Api::kV1;
  if (text == "v2") return Api::kV2;
  refuse("--api: expected auto, v1 or v2, found " + text);
}

std::string task_of(const std::string& text) {
  if (text != "transcribe" && text != "translate") refuse("--task: expected transcribe or translate, found " + text);
  return text;
}

using Take = std::function<void(const std::string&)>;

std::map<std::string, Take> takers(Arguments& a) {
  return {
      {"--model", [&](const std::string& v) { a.model = v; }},
      {"--language", [&](const std::string& v) { a.language = v; }},
      {"--task", [&](const std::string& v) { a.task = task_of(v); }},
      {"--decode", [&](const std::string& v) { a.decode = v; }},
      {"--dump", [&](const std::string& v) { a.dump = v; }},
      {"--library", [&](const std::string& v) { a.libraries.push_back(v); }},
      {"--api", [&](const std::string& v) { a.api = api_of(v); }},
  };
}

}  // namespace

Arguments parse_arguments(const std::vector<std::string>& words) {
  Arguments arguments;
  const std::map<std::string, Take> options = takers(arguments);
  bool only_sounds = false;
  for (size_t i = 0; i < words.size(); ++i) {
    if (only_sounds || words[i].compare(0, 1, "-") != 0) {
      arguments.sounds.push_back(words[i]);
    } else if (words[i] == "--") {
      only_sounds = true;
    } else if (words[i] == "--help") {
      arguments.help = true;
      return arguments;
    } else {
      const auto option = options.find(words[i]);
      if (option == options.end()) refuse("unknown option " + words[i]);
      if (i + 1 == words.size()) refuse(words[i] + " takes a value");
      option->second(words[++i]);
    }
  }
  if (arguments.model.empty()) refuse("--model is missing");
  if (arguments.sounds.empty()) refuse("no sound is given");
  return arguments;
}

}  // namespace parity
