// The parts of the Neuron runtime's C ABI that the runner calls: own declarations, called through dlsym.
#pragma once

#include <cstddef>
#include <cstdint>

namespace parity::neuron {

constexpr int kNoError = 0;
constexpr int kOutOfMemory = 1;

// Two layouts of EnvOptions are in the wild, equal in the first field only: with the rest zero both mean the same.
struct EnvOptions {
  uint32_t device_kind;
  uint32_t rest[3];
};
constexpr uint32_t kHardware = 1u << 2;

struct BufferAttribute {
  int ion_fd;
};
constexpr int kNoFd = -1;

struct IoBuffer {
  void* buffer;
  size_t length;
  int fd;
  int offset;
  uint64_t reserved2, reserved3;
};
static_assert(sizeof(void*) != 8 || sizeof(IoBuffer) == 40, "IOBuffer is 40 bytes");

struct SyncInferenceRequest {
  IoBuffer* inputs;
  IoBuffer* outputs;
};

extern "C" {
using GetVersion = int (*)(void* version);
using GetNumber = int (*)(void* runtime, size_t* count);
using GetSize = int (*)(void* runtime, uint64_t handle, size_t* size);
using Release = void (*)(void* runtime);

using V1Create = int (*)(const EnvOptions* options, void** runtime);
using V1Load = int (*)(void* runtime, const char* path);
using V1SetInput = int (*)(void* runtime, uint64_t handle, const void* data, size_t size, BufferAttribute attribute);
using V1SetOutput = int (*)(void* runtime, uint64_t handle, void* data, size_t size, BufferAttribute attribute);
using V1Inference = int (*)(void* runtime);

using V2Create = int (*)(const char* path, size_t threads, void** runtime, size_t backlog);
using V2Run = int (*)(void* runtime, SyncInferenceRequest request);
}

}  // namespace parity::neuron
