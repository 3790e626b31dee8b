#include "connection.h"

#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace parity {
namespace {

// Below every IOV_MAX in use (1024); a reply has at most one part for each position of the decoder, and its head.
constexpr size_t kMaxParts = 512;

bool would_block() { return errno == EAGAIN || errno == EWOULDBLOCK; }

// What is left of a reply after `skip` bytes.
std::vector<iovec> rest(const Reply& reply, size_t skip) {
  std::vector<iovec> parts;
  const auto add = [&](Bytes bytes) {
    const size_t cut = std::min(skip, bytes.size);
    skip -= cut;
    if (bytes.size > cut && parts.size() < kMaxParts) {
      parts.push_back({const_cast<uint8_t*>(bytes.data + cut), bytes.size - cut});
    }
  };
  add({reply.head.data(), reply.head.size()});
  for (const Bytes& part : reply.parts) add(part);
  return parts;
}

}  // namespace

Connection::Connection(int fd) : fd_(fd) {
  reader_.set_limit(kMaxHello, Code::kBadRequest, "before HELLO a frame is at most 8192 bytes");
}

Connection::~Connection() { close(fd_); }

bool Connection::receive() {
  while (!reader_.complete()) {
    const auto [to, size] = reader_.space();
    const ssize_t got = recv(fd_, to, size, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return would_block();
    if (got == 0) return false;
    reader_.filled(static_cast<size_t>(got));
  }
  return true;
}

bool Connection::discard() {
  char nowhere[4096];
  ssize_t got;
  while ((got = recv(fd_, nowhere, sizeof nowhere, 0)) > 0 || (got < 0 && errno == EINTR)) {
  }
  return got < 0 && would_block();
}

void Connection::drain() {
  shutdown(fd_, SHUT_WR);
  draining_ = true;
  authenticated_ = false;
  since_ = Clock::now();
}

void Connection::send(Reply reply) {
  hang_up_ = reply.hang_up;
  exit_ = reply.exit;
  reply_ = std::move(reply);
  sent_ = 0;
}

bool Connection::flush() {
  while (reply_.has_value()) {
    std::vector<iovec> parts = rest(*reply_, sent_);
    if (parts.empty()) {
      reply_.reset();
      break;
    }
    const ssize_t wrote = writev(fd_, parts.data(), static_cast<int>(parts.size()));  // SIGPIPE is ignored
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return would_block();
    sent_ += static_cast<size_t>(wrote);
  }
  return true;
}

void Connection::authenticate(const std::string& owner) {
  authenticated_ = true;
  owner_ = owner;
  reader_.set_limit(kMaxRequest, Code::kTooLarge, "requests are at most 64 MiB");
}

}  // namespace parity
