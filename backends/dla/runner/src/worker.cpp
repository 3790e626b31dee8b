#include "worker.h"

#include <fcntl.h>
#include <unistd.h>

#include <exception>
#include <new>
#include <utility>

namespace parity {
namespace {

// Whatever goes wrong becomes a reply.
Reply answered(const std::function<Reply(const Frame&)>& answer, const Frame& frame) {
  try {
    return answer(frame);
  } catch (const Failure& failure) {
    return error_reply(frame.header.id, failure);
  } catch (const std::bad_alloc&) {
    return error_reply(frame.header.id, Failure(Code::kOutOfMemory, "the runner has no memory for this request"));
  } catch (const std::exception& error) {
    return error_reply(frame.header.id, Failure(Code::kInternal, error.what()));
  }
}

}  // namespace

Worker::Worker(std::function<Reply(const Frame&)> answer) : answer_(std::move(answer)) {
  if (pipe(pipe_) != 0) throw Failure(Code::kInternal, "no pipe for the worker");
  for (const int fd : pipe_) fcntl(fd, F_SETFD, FD_CLOEXEC);
  thread_ = std::thread([this] { loop(); });
}

Worker::~Worker() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  thread_.join();
  for (const int fd : pipe_) close(fd);
}

void Worker::give(Frame frame) {
  busy_ = true;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    job_ = std::move(frame);
  }
  changed_.notify_one();
}

Reply Worker::take() {
  char byte;
  while (read(pipe_[0], &byte, 1) < 0) {
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  busy_ = false;
  Reply reply = std::move(*done_);
  done_.reset();
  return reply;
}

void Worker::loop() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || job_.has_value(); });
    if (stopping_) return;
    const Frame frame = std::move(*job_);
    job_.reset();
    lock.unlock();
    Reply reply = answered(answer_, frame);
    lock.lock();
    done_ = std::move(reply);
    while (write(pipe_[1], "", 1) < 0) {
    }
  }
}

}  // namespace parity
