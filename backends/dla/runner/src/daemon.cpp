#include "daemon.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "machine.h"
#include "options.h"
#include "service.h"

namespace parity {
namespace {

constexpr size_t kMaxLine = 8192;

std::string one_line(std::string text) {
  std::replace_if(text.begin(), text.end(), [](char c) { return c == '\n' || c == '\r' || c == '\t'; }, ' ');
  return text;
}

// Whatever the shell that started us had open would stay open with us.
void close_inherited(int keep) {
  const long greatest = std::min(sysconf(_SC_OPEN_MAX), 4096L);
  for (int fd = 3; fd < greatest; ++fd) {
    if (fd != keep) close(fd);
  }
}

std::string read_line(int fd) {
  std::string line;
  char byte;
  ssize_t got;
  while (line.size() < kMaxLine && ((got = read(fd, &byte, 1)) > 0 || (got < 0 && errno == EINTR))) {
    if (got > 0 && byte == '\n') return line;
    if (got > 0) line += byte;
  }
  return line;
}

// The child said nothing before it ended.
std::string obituary(pid_t child, const std::string& log) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  const std::string how = WIFSIGNALED(status) ? "was killed by signal " + std::to_string(WTERMSIG(status))
                                              : "ended with code " + std::to_string(WEXITSTATUS(status));
  return error_line(Failure(Code::kInternal, "the runner " + how + " while it started: " + tail(log, 500)));
}

[[noreturn]] void be_child(int out, const std::function<void(const Report&)>& serve) {
  setsid();
  close_inherited(out);
  serve([out](const std::string& line) {
    const std::string text = line + "\n";
    if (write(out, text.data(), text.size()) < 0) std::fprintf(stderr, "nobody waits for: %s", text.c_str());
    close(out);
  });
  std::fflush(nullptr);
  _exit(0);  // an inference that hangs must not keep the process
}

}  // namespace

std::string ready_line(const std::string& address) {
  return "READY " + std::to_string(getpid()) + " " + address;
}

std::string error_line(const Failure& failure) {
  return "ERROR " + std::to_string(static_cast<uint32_t>(failure.code())) + " " + one_line(printable(failure.what()));
}

int exit_code(const std::string& line) {
  return line.rfind("ERROR ", 0) == 0 ? 10 + std::atoi(line.c_str() + 6) : 0;
}

int daemonise(const std::string& log, const std::function<void(const Report&)>& serve) {
  int pipe_fds[2];
  if (pipe(pipe_fds) != 0) throw Failure(Code::kInternal, std::string("pipe: ") + std::strerror(errno));
  const pid_t child = fork();
  if (child < 0) throw Failure(Code::kInternal, std::string("fork: ") + std::strerror(errno));
  if (child == 0) be_child(pipe_fds[1], serve);
  close(pipe_fds[1]);
  std::string line = read_line(pipe_fds[0]);
  if (line.empty()) line = obituary(child, log);
  std::printf("%s\n", line.c_str());
  return exit_code(line);
}

void redirect(const std::string& log) {
  const int out = open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);
  if (out < 0) throw Failure(Code::kInternal, log + ": " + std::strerror(errno));
  const int nowhere = open("/dev/null", O_RDONLY);
  std::fflush(nullptr);
  if (nowhere < 0 || dup2(nowhere, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0) {
    throw Failure(Code::kInternal, std::string("cannot redirect: ") + std::strerror(errno));
  }
  if (nowhere > 2) close(nowhere);
  if (out > 2) close(out);
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
}

void hold_lock(const std::string& path, const std::string& owner) {
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) throw Failure(Code::kInternal, path + ": " + std::strerror(errno));
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    const std::string held = one_line(printable(tail(path, 1000)));
    close(fd);
    throw Failure(Code::kBusy, "another runner holds " + path + ": " + held);
  }
  const std::string text = "pid " + std::to_string(getpid()) + "\nbuild " + build_id() + "\nowner " + owner + "\n";
  if (ftruncate(fd, 0) != 0 || write(fd, text.data(), text.size()) < 0) {
    throw Failure(Code::kInternal, path + ": " + std::strerror(errno));
  }
}

Digest read_token(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw Failure(Code::kInternal, path + ": the token file cannot be read");
  std::string text;
  file >> text;
  unlink(path.c_str());
  return parse_digest(text, "--token-file");
}

}  // namespace parity
