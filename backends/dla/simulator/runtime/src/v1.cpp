// NeuronRuntime_*: create, load, set, infer.

#include "exported.h"

namespace {

using stand_in::kNoError;
using stand_in::kUnexpectedNull;
using stand_in::Network;

struct Runtime {
  std::unique_ptr<Network> network;
};

Network* network_of(void* runtime) { return runtime == nullptr ? nullptr : static_cast<Runtime*>(runtime)->network.get(); }

// Of the options only the first field means the same in both layouts; a runtime of either would read the rest as zeros.
struct EnvOptions {
  uint32_t device_kind;
  uint32_t core_mode;
  uint8_t bytes[4];
};
constexpr uint32_t kHardware = 1u << 2;

struct BufferAttribute {
  int ion_fd;
};

}  // namespace

STAND_IN_API int NeuronRuntime_create(const EnvOptions* options, void** runtime) {
  if (options == nullptr || runtime == nullptr) return kUnexpectedNull;
  for (const uint8_t byte : options->bytes) {
    if (byte != 0) {
      stand_in::log("simulator: a field of EnvOptions after deviceKind is set, which means different things to runtimes");
      return stand_in::kRuntimeError;
    }
  }
  if (options->device_kind != kHardware || options->core_mode != 0) return stand_in::kRuntimeError;
  *runtime = new Runtime;
  return kNoError;
}

STAND_IN_API int NeuronRuntime_loadNetworkFromFile(void* runtime, const char* path) {
  if (runtime == nullptr) return kUnexpectedNull;
  return Network::load(path, &static_cast<Runtime*>(runtime)->network);
}

STAND_IN_API int NeuronRuntime_getInputNumber(void* runtime, size_t* count) {
  const Network* network = network_of(runtime);
  return network == nullptr ? kUnexpectedNull : stand_in::number(network->inputs(), count);
}

STAND_IN_API int NeuronRuntime_getOutputNumber(void* runtime, size_t* count) {
  const Network* network = network_of(runtime);
  return network == nullptr ? kUnexpectedNull : stand_in::number(network->outputs(), count);
}

STAND_IN_API int NeuronRuntime_getInputSize(void* runtime, uint64_t handle, size_t* bytes) {
  return stand_in::size(network_of(runtime), true, handle, bytes);
}

STAND_IN_API int NeuronRuntime_getOutputSize(void* runtime, uint64_t handle, size_t* bytes) {
  return stand_in::size(network_of(runtime), false, handle, bytes);
}

STAND_IN_API int NeuronRuntime_setInput(void* runtime, uint64_t handle, const void* data, size_t size,
                                        BufferAttribute) {
  Network* network = network_of(runtime);
  return network == nullptr ? kUnexpectedNull : network->set_input(handle, data, size);
}

STAND_IN_API int NeuronRuntime_setOutput(void* runtime, uint64_t handle, void* data, size_t size, BufferAttribute) {
  Network* network = network_of(runtime);
  return network == nullptr ? kUnexpectedNull : network->set_output(handle, data, size);
}

STAND_IN_API int NeuronRuntime_inference(void* runtime) {
  Network* network = network_of(runtime);
  return network == nullptr ? kUnexpectedNull : network->run();
}

STAND_IN_API void NeuronRuntime_release(void* runtime) { delete static_cast<Runtime*>(runtime); }
