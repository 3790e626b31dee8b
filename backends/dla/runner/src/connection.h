// One client's socket: frames in, one reply out.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "frame.h"

namespace parity {

class Connection {
 public:
  using Clock = std::chrono::steady_clock;

  explicit Connection(int fd);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  int fd() const { return fd_; }
  // Read what is there until a frame is complete. False when the client hung up.
  // Throws Failure for bytes that cannot be a request.
  bool receive();
  // Read and forget. False when the client hung up.
  bool discard();
  bool has_frame() const { return reader_.complete(); }
  Frame take() { return reader_.take(); }
  uint32_t id() const { return reader_.id(); }

  // Send a reply, as much of it as the socket takes at once.
  void send(Reply reply);
  bool sending() const { return reply_.has_value(); }
  // Go on sending. False when the client hung up.
  bool flush();
  // Whether the last reply asked for it: close this connection, or end the runner.
  bool hang_up() const { return hang_up_; }
  bool exit() const { return exit_; }

  // Say no more, and read what still comes until the client hangs up: closing a socket with unread bytes would reset
  // it, and the last reply with it.
  void drain();
  bool draining() const { return draining_; }

  // HELLO was good: longer requests are taken from now on.
  void authenticate(const std::string& owner);
  bool authenticated() const { return authenticated_; }
  const std::string& owner() const { return owner_; }
  // When it came, or began to drain.
  Clock::time_point since() const { return since_; }
  // Its request is with the worker.
  bool computing = false;

 private:
  int fd_;
  FrameReader reader_;
  std::optional<Reply> reply_;
  size_t sent_ = 0;
  bool hang_up_ = false, exit_ = false, authenticated_ = false, draining_ = false;
  std::string owner_;
  Clock::time_point since_ = Clock::now();
};

}  // namespace parity
