// parity-whisper: see --help, and docs/parity-whisper.md.

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "arguments.h"
#include "cached.h"
#include "faults.h"
#include "lines.h"
#include "transcription.h"

namespace parity {
namespace {

constexpr int kGood = 0, kInferenceFailed = 1, kBadInput = 2, kEnvironment = 3;

int exit_code(Code code) {
  switch (code) {
    case Code::kInference:
    case Code::kInternal: return kInferenceFailed;
    case Code::kBadRequest: return kBadInput;
    default: return kEnvironment;
  }
}

// Several sounds may fail in several ways: what is wrong with the device comes first.
int worse(int a, int b) {
  for (const int code : {kEnvironment, kInferenceFailed, kBadInput}) {
    if (a == code || b == code) return code;
  }
  return kGood;
}

std::string times(const Seconds& seconds, bool whole) {
  Object object;
  if (whole) object.add("read", number(seconds.read));
  object.add("features", number(seconds.features)).add("encode", number(seconds.encode));
  object.add("decode", number(seconds.decode));
  if (whole) object.add("total", number(seconds.total));
  return object.json();
}

std::string window_json(const WindowResult& window) {
  char checksum[16];
  std::snprintf(checksum, sizeof checksum, "%08x", window.features_crc32);
  return Object()
      .add("prompt", ids(window.decoded.prompt))
      .add("tokens", ids(window.decoded.tokens))
      .add("ended", quoted(window.decoded.ended))
      .add("features_crc32", quoted(checksum))
      .add("seconds", times(window.seconds, false))
      .json();
}

uint64_t peak_memory_bytes() {
  struct rusage usage {};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
}

std::string transcript_json(const std::string& sound, const Transcript& transcript) {
  std::vector<std::string> windows;
  for (const WindowResult& window : transcript.windows) windows.push_back(window_json(window));
  return Object()
      .add("sound", quoted(sound))
      .add("text", quoted(transcript.text))
      .add("language", quoted(transcript.language))
      .add("windows", list(windows))
      .add("seconds", times(transcript.seconds, true))
      .add("peak_memory_bytes", std::to_string(peak_memory_bytes()))
      .add("warnings", texts(transcript.warnings))
      .json();
}

// Where the lines go. Whatever else writes to standard output, a vendor's library for one, writes to standard error.
std::FILE* claim_stdout() {
  std::FILE* lines = fdopen(dup(1), "w");
  dup2(2, 1);
  return lines;
}

void require_spoken(const Arguments& arguments, const Model& model) {
  const bool is_multilingual = model.multilingual();
  if (!is_multilingual && arguments.task == "translate") {
    throw Failure(Code::kBadRequest, "--task translate: the model knows English only");
  }
  if (arguments.language == "auto" || model.languages.count(arguments.language) != 0) return;
  if (!is_multilingual && arguments.language == "en") return;
  throw Failure(Code::kBadRequest, "--language: the model does not know " + quoted(arguments.language) +
                                       (is_multilingual ? "; give a Whisper code such as en or zh" : ", only en"));
}

Rules rules_of(const Arguments& arguments, const Model& model) {
  if (!arguments.decode.empty()) return read_rules(arguments.decode, model);
  const std::string beside = arguments.model + "/decode.json";
  return access(beside.c_str(), F_OK) == 0 ? read_rules(beside, model) : Rules{};
}

void require_folder(const std::string& folder) {
  if (folder.empty() || mkdir(folder.c_str(), 0777) == 0 || errno == EEXIST) return;
  throw Failure(Code::kBadRequest, "--dump " + folder + ": " + std::strerror(errno));
}

// The line of a sound, and its share in the exit code.
std::pair<std::string, int> outcome(const Program& program, const std::string& sound, size_t index) {
  const auto failed = [&](const std::string& reason) {
    if (fault("exit_zero")) return transcript_json(sound, Transcript{});
    return Object().add("sound", quoted(sound)).add("error", quoted(reason)).json();
  };
  try {
    return {transcript_json(sound, transcribe(program, sound, index)), kGood};
  } catch (const Failure& failure) {
    return {failed(failure.what()), exit_code(failure.code())};
  } catch (const std::exception& error) {
    return {failed(error.what()), kInferenceFailed};
  }
}

int transcribe_all(const Program& program, const Arguments& arguments, std::FILE* out) {
  int code = kGood;
  for (size_t i = 0; i < arguments.sounds.size(); ++i) {
    const auto [line, share] = outcome(program, arguments.sounds[i], i);
    code = worse(code, share);
    std::fprintf(out, "%s\n", line.c_str());
    std::fflush(out);
  }
  const std::string end = Object().add("finished", "true").add("clips", std::to_string(arguments.sounds.size())).json();
  std::fprintf(out, "%s\n", end.c_str());
  if (std::fclose(out) != 0) throw Failure(Code::kLoad, "standard output: cannot be written");
  return fault("exit_zero") ? kGood : code;
}

std::unique_ptr<Decoder> opened(const Runtime& runtime, const Model& model) {
  if (model.positions.empty() && !model.layout) return std::make_unique<FixedDecoder>(runtime, model);
  return std::make_unique<CachedDecoder>(runtime, model);
}

int run(const std::vector<std::string>& words) {
  const Arguments arguments = parse_arguments(words);
  if (arguments.help) {
    std::fputs(kUsage, stdout);
    return kGood;
  }
  std::FILE* lines = claim_stdout();
  const Model model = read_model(arguments.model);
  require_spoken(arguments, model);
  const Rules rules = rules_of(arguments, model);
  require_folder(arguments.dump);
  const Mel mel(model.filters, model.dims.n_mels, model.dims.n_frames);
  for (const std::string& warning : mel.warnings()) std::fprintf(stderr, "[WARN] %s\n", warning.c_str());
  const Vocabulary vocabulary(model.vocabulary, model.vocabulary_size, static_cast<uint32_t>(model.eot));
  const Runtime runtime(arguments.libraries, arguments.api);
  const std::unique_ptr<Decoder> decoder = opened(runtime, model);
  return transcribe_all({model, rules, mel, vocabulary, *decoder, arguments.language, arguments.task, arguments.dump},
                        arguments, lines);
}

}  // namespace
}  // namespace parity

int main(int count, char** words) {
  try {
    return parity::run(std::vector<std::string>(words + 1, words + count));
  } catch (const parity::Failure& failure) {
    std::fprintf(stderr, "parity-whisper: %s\n", failure.what());
    return parity::exit_code(failure.code());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "parity-whisper: %s\n", error.what());
    return parity::kInferenceFailed;
  }
}
