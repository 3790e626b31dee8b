#include "fault.h"

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <thread>

#include "container.h"

namespace stand_in {
namespace {

struct Asked {
  std::string name;
  long from = 1;
};

const Asked& asked() {
  static const Asked found = [] {
    const char* text = std::getenv("PARITY_SIM_FAULT");
    Asked fault{text != nullptr ? text : ""};
    const size_t colon = fault.name.find(':');
    if (colon != std::string::npos) {
      fault.from = std::atol(fault.name.c_str() + colon + 1);
      fault.name.resize(colon);
    }
    return fault;
  }();
  return found;
}

}  // namespace

bool fault_at_load(const char* name) { return asked().name == name; }

std::string fault_of_inference() {
  static std::atomic<long> count{0};
  const long number = ++count;
  if (const char* delay = std::getenv("PARITY_SIM_COMPUTE_MS")) {
    std::this_thread::sleep_for(std::chrono::milliseconds(std::atol(delay)));
  }
  if (asked().name.empty() || number < asked().from) return "";
  log("simulator: fault %s at inference %ld", asked().name.c_str(), number);
  while (asked().name == "hang") pause();
  if (asked().name == "crash") std::raise(SIGSEGV);
  return asked().name;
}

}  // namespace stand_in
