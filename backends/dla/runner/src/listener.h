// Where clients come in: an abstract socket, or TCP on the loopback address. Nothing else can be listened on.
#pragma once

#include <string>

namespace parity {

class Listener {
 public:
  // "abstract:NAME" or "tcp:PORT" (0: any free one). Throws Failure kInternal, or kBadRequest for another address.
  explicit Listener(const std::string& address);
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  // The address with the port that was found.
  const std::string& address() const { return address_; }
  int fd() const { return fd_; }
  // A connection, non-blocking; -1 when there is none.
  int accept() const;

 private:
  void listen_abstract(const std::string& name);
  void listen_tcp(const std::string& port);

  std::string address_;
  int fd_ = -1;
  bool tcp_ = false;
};

}  // namespace parity
