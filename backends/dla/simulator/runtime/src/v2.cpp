// NeuronRuntimeV2_*: create from a file, run with all buffers at once.

#include "exported.h"

namespace {

using stand_in::kNoError;
using stand_in::kUnexpectedNull;
using stand_in::Network;

struct IoBuffer {
  void* buffer;
  size_t length;
  int fd, offset;
  uint64_t reserved2, reserved3;
};

struct SyncInferenceRequest {
  IoBuffer* inputs;
  IoBuffer* outputs;
};

}  // namespace

STAND_IN_API int NeuronRuntimeV2_create(const char* path, size_t, void** runtime, size_t) {
  if (runtime == nullptr) return kUnexpectedNull;
  std::unique_ptr<Network> network;
  const int code = Network::load(path, &network);
  *runtime = network.release();
  return code;
}

STAND_IN_API int NeuronRuntimeV2_getInputNumber(void* runtime, size_t* count) {
  return runtime == nullptr ? kUnexpectedNull : stand_in::number(static_cast<Network*>(runtime)->inputs(), count);
}

STAND_IN_API int NeuronRuntimeV2_getOutputNumber(void* runtime, size_t* count) {
  return runtime == nullptr ? kUnexpectedNull : stand_in::number(static_cast<Network*>(runtime)->outputs(), count);
}

STAND_IN_API int NeuronRuntimeV2_getInputSize(void* runtime, uint64_t handle, size_t* bytes) {
  return stand_in::size(static_cast<Network*>(runtime), true, handle, bytes);
}

STAND_IN_API int NeuronRuntimeV2_getOutputSize(void* runtime, uint64_t handle, size_t* bytes) {
  return stand_in::size(static_cast<Network*>(runtime), false, handle, bytes);
}

STAND_IN_API int NeuronRuntimeV2_run(void* runtime, SyncInferenceRequest request) {
  auto* network = static_cast<Network*>(runtime);
  if (network == nullptr || request.inputs == nullptr || request.outputs == nullptr) return kUnexpectedNull;
  for (size_t i = 0; i < network->inputs(); ++i) {
    const int code = network->set_input(i, request.inputs[i].buffer, request.inputs[i].length);
    if (code != kNoError) return code;
  }
  for (size_t i = 0; i < network->outputs(); ++i) {
    const int code = network->set_output(i, request.outputs[i].buffer, request.outputs[i].length);
    if (code != kNoError) return code;
  }
  return network->run();
}

STAND_IN_API void NeuronRuntimeV2_release(void* runtime) { delete static_cast<Network*>(runtime); }
