#include "server.h"

#include <poll.h>

#include <algorithm>
#include <string>
#include <utility>

#ifndef POLLRDHUP
#define POLLRDHUP 0
#endif

namespace parity {
namespace {

constexpr size_t kMaxClients = 16;
constexpr short kLost = POLLHUP | POLLERR | POLLNVAL | POLLRDHUP;

}  // namespace

Server::Server(const Listener& listener, Service& service, Worker& worker, Patience patience)
    : listener_(listener), service_(service), worker_(worker), patience_(patience) {}

const char* Server::run() {
  while (true) {
    const auto now = Clock::now();
    sweep(now);
    if (const char* reason = reason_to_end(now)) return reason;
    wait();
  }
}

const char* Server::reason_to_end(Clock::time_point now) const {
  if (bye_) return "BYE";
  const bool used = std::any_of(clients_.begin(), clients_.end(), [](const Connection& c) { return c.authenticated(); });
  if (was_used_ && !used && now >= left_ + patience_.linger) return "the client hung up";
  if (clients_.empty() && now >= left_ + patience_.idle) return "idle";
  return nullptr;
}

// Time until something ends by itself.
int Server::wait_ms(Clock::time_point now) const {
  auto next = left_ + (was_used_ ? std::min(patience_.linger, patience_.idle) : patience_.idle);
  if (next < now) next = now + std::chrono::seconds(1);
  for (const Connection& client : clients_) {
    if (!client.authenticated()) next = std::min(next, deadline(client));
  }
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(next - now).count() + 1;
  return static_cast<int>(std::clamp<long long>(left, 0, 60'000));
}

void Server::wait() {
  std::vector<pollfd> polled = {{listener_.fd(), POLLIN, 0}, {worker_.fd(), POLLIN, 0}};
  std::vector<Connection*> order;
  for (Connection& client : clients_) {
    const bool waits = client.computing || client.has_frame();  // its next request is read when this one is answered
    const short events = client.draining() ? POLLIN : client.sending() ? POLLOUT | POLLRDHUP : waits ? POLLRDHUP : POLLIN;
    polled.push_back({client.fd(), events, 0});
    order.push_back(&client);
  }
  if (poll(polled.data(), polled.size(), wait_ms(Clock::now())) <= 0) return;
  if (polled[1].revents != 0) deliver();
  for (size_t i = 0; i < order.size(); ++i) {
    if (polled[i + 2].revents != 0) serve(*order[i], polled[i + 2].revents);
  }
  if (polled[0].revents != 0) accept();
}

Server::Clock::time_point Server::deadline(const Connection& client) const {
  return client.since() + (client.draining() ? patience_.drain : patience_.hello);
}

void Server::accept() {
  for (int fd = listener_.accept(); fd >= 0; fd = listener_.accept()) {
    clients_.emplace_back(fd);
    if (clients_.size() <= kMaxClients) continue;
    // Of those that are not authenticated the oldest makes room.
    const auto is_stranger = [](const Connection& client) { return !client.authenticated(); };
    clients_.erase(std::find_if(clients_.begin(), clients_.end(), is_stranger));
  }
}

void Server::serve(Connection& client, short events) {
  if (client.draining()) {
    if (!client.discard()) drop(client);
    return;
  }
  if (client.sending()) {
    const bool lost = (events & kLost) != 0;
    if (!client.flush() || (lost && client.sending())) return drop(client);
  } else if (client.computing || client.has_frame()) {
    if ((events & kLost) != 0) return drop(client);
  } else {
    try {
      if (!client.receive()) return drop(client);
    } catch (const Failure& failure) {
      return refuse(client, client.id(), failure, true);
    }
  }
  dispatch(client);
}

// Go on with a client: answer its frame if it has one and nothing else is under way.
void Server::dispatch(Connection& client) {
  if (client.sending() || client.computing) return;
  if (client.hang_up()) return drain(client);
  if (client.exit()) bye_ = true;
  if (!client.has_frame() || bye_) return;
  if (client.authenticated() && worker_.busy()) return;  // with the request of a client that hung up
  Frame frame = client.take();
  const uint32_t id = frame.header.id;
  if (frame.header.flags != 0) return refuse(client, id, Failure(Code::kBadRequest, "flags must be 0"), false);
  if (client.authenticated()) {
    client.computing = true;
    return worker_.give(std::move(frame));
  }
  if (frame.type() != Type::kHello) {
    return refuse(client, id, Failure(Code::kBadRequest, "HELLO comes first"), false);
  }
  try {
    hello(client, frame);
  } catch (const Failure& failure) {
    refuse(client, id, failure, failure.code() != Code::kBadRequest);
  }
}

void Server::hello(Connection& client, const Frame& frame) {
  const Hello said = service_.authenticate(frame.bytes());
  if (const Connection* other = authenticated()) throw Failure(Code::kBusy, "used by " + other->owner());
  service_.check_models(said);
  client.authenticate(said.owner);
  was_used_ = true;
  client.send(service_.welcome(frame.header.id));
  if (!client.flush()) drop(client);
}

// The worker is done: its reply goes to the client that asked, if that is still there.
void Server::deliver() {
  Reply reply = worker_.take();
  for (Connection& client : clients_) {
    if (!client.computing) continue;
    client.computing = false;
    client.send(std::move(reply));
    if (!client.flush()) return drop(client);
    return dispatch(client);
  }
  if (Connection* waiting = authenticated()) dispatch(*waiting);
}

void Server::refuse(Connection& client, uint32_t id, const Failure& failure, bool hang_up) {
  Reply reply = error_reply(id, failure);
  reply.hang_up = hang_up;
  client.send(std::move(reply));
  if (!client.flush()) return drop(client);
  if (!client.sending() && hang_up) drain(client);
}

void Server::drain(Connection& client) {
  if (client.authenticated()) left_ = Clock::now();
  client.drain();
}

void Server::drop(Connection& client) { gone_.push_back(&client); }

// Remove who is gone, or has not said HELLO in time.
void Server::sweep(Clock::time_point now) {
  clients_.remove_if([&](const Connection& client) {
    const bool late = !client.authenticated() && now >= deadline(client);
    if (!late && std::find(gone_.begin(), gone_.end(), &client) == gone_.end()) return false;
    if (client.authenticated() || !was_used_) left_ = now;
    return true;
  });
  gone_.clear();
}

Connection* Server::authenticated() {
  for (Connection& client : clients_) {
    const bool gone = std::find(gone_.begin(), gone_.end(), &client) != gone_.end();
    if (client.authenticated() && !gone) return &client;
  }
  return nullptr;
}

}  // namespace parity
