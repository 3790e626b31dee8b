#include "exported.h"

namespace {

struct NeuronVersion {
  uint8_t major, minor, patch;
};

}  // namespace

STAND_IN_API int NeuronRuntime_getVersion(NeuronVersion* version) {
  if (version == nullptr) return stand_in::kUnexpectedNull;
  *version = {static_cast<uint8_t>(stand_in::runtime_major()), 2, 16};
  return stand_in::kNoError;
}
