// Hooks of the seeded faults: constants in the product, an environment variable in parity-whisper-faulty.
#pragma once

#ifdef PARITY_FAULTS
#include <cstdlib>
#include <cstring>
#endif

namespace parity {

#ifdef PARITY_FAULTS
inline bool fault(const char* name) {
  const char* chosen = std::getenv("PARITY_FAULT");
  return chosen != nullptr && std::strcmp(chosen, name) == 0;
}
#else
constexpr bool fault(const char*) { return false; }
#endif

}  // namespace parity
