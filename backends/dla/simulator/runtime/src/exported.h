// What the two APIs share.
#pragma once

#include "network.h"

#define STAND_IN_API extern "C" __attribute__((visibility("default")))

namespace stand_in {

inline int number(size_t found, size_t* count) {
  if (count == nullptr) return kUnexpectedNull;
  *count = found;
  return kNoError;
}

inline int size(const Network* network, bool input, uint64_t handle, size_t* bytes) {
  if (network == nullptr || bytes == nullptr) return kUnexpectedNull;
  if (handle >= (input ? network->inputs() : network->outputs())) return kBadData;
  *bytes = input ? network->input_size(handle) : network->output_size(handle);
  return kNoError;
}

}  // namespace stand_in
