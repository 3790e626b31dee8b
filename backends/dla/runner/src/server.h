// The loop over all sockets: one authenticated client, its requests in order, everybody else answered and sent away.
#pragma once

#include <chrono>
#include <list>

#include "connection.h"
#include "listener.h"
#include "service.h"
#include "worker.h"

namespace parity {

struct Patience {
  // Without any connection the runner ends after this.
  std::chrono::seconds idle{300};
  // After the authenticated client hung up, unless one comes back.
  std::chrono::seconds linger{5};
  // A connection that has not said HELLO by then is closed.
  std::chrono::seconds hello{10};
  // How long a connection that we end may take to hang up too.
  std::chrono::seconds drain{2};
};

class Server {
 public:
  Server(const Listener& listener, Service& service, Worker& worker, Patience patience);

  // Serve until BYE, idleness or the end of lingering; says which.
  const char* run();

 private:
  using Clock = std::chrono::steady_clock;
  using Clients = std::list<Connection>;

  const char* reason_to_end(Clock::time_point now) const;
  int wait_ms(Clock::time_point now) const;
  Clock::time_point deadline(const Connection& client) const;
  void wait();
  void accept();
  void serve(Connection& client, short events);
  void dispatch(Connection& client);
  void hello(Connection& client, const Frame& frame);
  void deliver();
  void refuse(Connection& client, uint32_t id, const Failure& failure, bool hang_up);
  void drain(Connection& client);
  void drop(Connection& client);
  void sweep(Clock::time_point now);
  Connection* authenticated();

  const Listener& listener_;
  Service& service_;
  Worker& worker_;
  Patience patience_;
  Clients clients_;
  std::vector<Connection*> gone_;
  bool bye_ = false, was_used_ = false;
  Clock::time_point left_ = Clock::now();
};

}  // namespace parity
