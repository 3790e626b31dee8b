#include "listener.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "failure.h"

namespace parity {
namespace {

constexpr int kBacklog = 64;

void prepare(int fd) {
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

[[noreturn]] void refuse(const std::string& address) {
  throw Failure(Code::kInternal, "cannot listen on " + address + ": " + std::strerror(errno));
}

}  // namespace

Listener::Listener(const std::string& address) : address_(address) {
  if (address.rfind("abstract:", 0) == 0) {
    listen_abstract(address.substr(9));
  } else if (address.rfind("tcp:", 0) == 0) {
    listen_tcp(address.substr(4));
  } else {
    throw Failure(Code::kBadRequest, "--listen takes abstract:NAME or tcp:PORT, found " + address);
  }
  if (listen(fd_, kBacklog) != 0) refuse(address);
  prepare(fd_);
}

Listener::~Listener() {
  if (fd_ >= 0) close(fd_);
}

void Listener::listen_abstract(const std::string& name) {
  sockaddr_un where{};
  where.sun_family = AF_UNIX;
  if (name.empty() || name.size() > sizeof where.sun_path - 1) {
    throw Failure(Code::kBadRequest, "--listen abstract:NAME takes 1 to 107 bytes");
  }
  std::memcpy(where.sun_path + 1, name.data(), name.size());
  fd_ = socket(AF_UNIX, SOCK_STREAM, 0);
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  if (fd_ < 0 || bind(fd_, reinterpret_cast<const sockaddr*>(&where), size) != 0) refuse(address_);
}

void Listener::listen_tcp(const std::string& port) {
  char* end = nullptr;
  const long number = std::strtol(port.c_str(), &end, 10);
  if (port.empty() || *end != '\0' || number < 0 || number > 65535) {
    throw Failure(Code::kBadRequest, "--listen tcp:PORT takes 0 to 65535, found " + port);
  }
  tcp_ = true;
  sockaddr_in where{};
  where.sin_family = AF_INET;
  where.sin_port = htons(static_cast<uint16_t>(number));
  where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof where;
  fd_ = socket(AF_INET, SOCK_STREAM, 0);
  auto* place = reinterpret_cast<sockaddr*>(&where);
  if (fd_ < 0 || bind(fd_, place, size) != 0 || getsockname(fd_, place, &size) != 0) refuse(address_);
  address_ = "tcp:" + std::to_string(ntohs(where.sin_port));
}

int Listener::accept() const {
  const int fd = ::accept(fd_, nullptr, nullptr);
  if (fd < 0) return -1;
  prepare(fd);
  const int on = 1;
  if (tcp_) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

}  // namespace parity
