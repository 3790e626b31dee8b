// One thread that computes, so that the sockets stay answered while the NPU is busy, or hangs.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

#include "frame.h"

namespace parity {

class Worker {
 public:
  // `answer` is called on the worker's thread. Throws Failure kInternal.
  explicit Worker(std::function<Reply(const Frame&)> answer);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Only while !busy().
  void give(Frame frame);
  bool busy() const { return busy_; }
  // Readable when a reply is there.
  int fd() const { return pipe_[0]; }
  // The reply that fd() announced; the worker is not busy afterwards.
  Reply take();

 private:
  void loop();

  std::function<Reply(const Frame&)> answer_;
  int pipe_[2] = {-1, -1};
  bool busy_ = false;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<Frame> job_;
  std::optional<Reply> done_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace parity
