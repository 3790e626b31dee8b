// parity-runner: keeps a Whisper encoder and decoder resident on a device and answers Protocol 2 (PROTOCOL.md).

#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "daemon.h"
#include "machine.h"
#include "options.h"
#include "server.h"
#include "service.h"
#include "stepping.h"
#include "whole.h"
#include "worker.h"

namespace parity {
namespace {

// What the runtime's log says of a refused DLA says more than its code.
Failure with_log(const Failure& failure, const Options& options, uint64_t from) {
  std::fflush(stdout);
  if (failure.runtime_code() == 0) return failure;
  const std::string said = tail(options.log, 600, from);
  const bool mismatch = said.find("mismatching runtime") != std::string::npos;
  const Code code = mismatch && failure.code() == Code::kLoad ? Code::kRuntimeVersion : failure.code();
  return Failure(code, failure.what() + (said.empty() ? "" : "; the runtime's log: " + said), failure.runtime_code());
}

Identity identity_of(const Options& options, const Runtime& runtime, const Digest& token) {
  Identity identity;
  identity.token = token;
  identity.encoder = options.encoder_sha256;
  identity.decoder = options.decoder_sha256;
  identity.embedding = options.embedding_sha256;
  identity.api = runtime.api();
  identity.dims = options.dims;
  identity.library = runtime.library();
  identity.version = runtime.version();
  identity.log = options.log;
  return identity;
}

void serve_loaded(const Options& options, const Digest& token, const Report& report) {
  const Runtime runtime(options.runtimes, options.api);
  std::fprintf(stderr, "parity-runner %s: %s, version %s, API V%u\n", build_id().c_str(), runtime.library().c_str(),
               runtime.version().empty() ? "unknown" : runtime.version().c_str(), unsigned{runtime.api()});
  Identity identity = identity_of(options, runtime, token);
  const uint64_t log_before = file_size(options.log);
  const auto started = std::chrono::steady_clock::now();
  try {
    std::unique_ptr<Whisper> whisper;
    std::unique_ptr<Stepped> stepped;
    std::unique_ptr<Answering> models;
    if (options.stepped) {
      stepped = std::make_unique<Stepped>(runtime, options.paths.encoder, options.paths.decoder);
      models = std::make_unique<Stepping>(*stepped);
    } else {
      whisper = std::make_unique<Whisper>(runtime, options.paths, options.dims);
      models = std::make_unique<Whole>(*whisper);
    }
    const auto took = std::chrono::steady_clock::now() - started;
    identity.load_us =
        static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(took).count());
    const Listener listener(options.listen);
    Service service(*models, std::move(identity));
    Worker worker([&service](const Frame& frame) { return service.answer(frame); });
    report(ready_line(listener.address()));
    const char* reason = Server(listener, service, worker, options.patience).run();
    std::fprintf(stderr, "parity-runner ends: %s\n", reason);
    std::fflush(nullptr);
    if (worker.busy()) _exit(0);  // nobody waits for it, and it may never come back
  } catch (const Failure& failure) {
    throw with_log(failure, options, log_before);
  }
}

void serve(const Options& options, const Report& tell) {
  bool told = false;
  const Report report = [&](const std::string& line) {
    if (!told) tell(line);
    told = true;
  };
  try {
    const Digest token = read_token(options.token_file);
    hold_lock(options.lock, options.owner);
    redirect(options.log);
    serve_loaded(options, token, report);
  } catch (const Failure& failure) {
    std::fprintf(stderr, "parity-runner: %s\n", failure.what());
    report(error_line(failure));
  } catch (const std::exception& error) {
    report(error_line(Failure(Code::kInternal, error.what())));
  }
}

int run(const Options& options) {
  std::signal(SIGPIPE, SIG_IGN);
  if (options.version) {
    std::printf("parity-runner %s protocol %u\n", build_id().c_str(), unsigned{kProtocol});
    return 0;
  }
  if (options.daemon) return daemonise(options.log, [&](const Report& report) { serve(options, report); });
  FILE* out = fdopen(dup(1), "w");  // stdout itself becomes the log
  std::string said;
  serve(options, [&](const std::string& line) {
    said = line;
    std::fprintf(out, "%s\n", line.c_str());
    std::fflush(out);
  });
  return exit_code(said);
}

}  // namespace
}  // namespace parity

int main(int count, char** words) {
  try {
    return parity::run(parity::parse_options(std::vector<std::string>(words + 1, words + count)));
  } catch (const parity::Failure& failure) {
    const std::string line = parity::error_line(failure);
    std::printf("%s\n", line.c_str());
    return parity::exit_code(line);
  }
}
