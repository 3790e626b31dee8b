// The parts of LiteRT's C ABI that the stand-in calls: own declarations for ai-edge-litert 2.3, called through dlsym.
// The ABI moves between releases; what would move with it is asserted here or checked when a model is loaded.
#pragma once

#include <cstddef>
#include <cstdint>

namespace stand_in::litert {

using Handle = void*;
using Status = int;

constexpr Status kOk = 0;
constexpr int kCpu = 1;

struct Layout {
  unsigned int rank : 7;
  bool has_strides : 1;
  int32_t dimensions[8];
  uint32_t strides[8];
};

struct RankedTensorType {
  int element_type;
  Layout layout;
};
static_assert(sizeof(RankedTensorType) == 72, "LiteRtRankedTensorType of LiteRT 2.3 is 72 bytes");
static_assert(offsetof(RankedTensorType, layout) == 4, "its layout follows the element type");

extern "C" {
using CreateEnvironment = Status (*)(int n_options, const void* options, Handle* environment);
using CreateOptions = Status (*)(Handle* options);
using SetAccelerators = Status (*)(Handle options, int accelerators);
using CreateOpaque = Status (*)(const char* identifier, void* payload, void (*destroy)(void*), Handle* opaque);
using AddOpaque = Status (*)(Handle options, Handle opaque);
using ModelFromBuffer = Status (*)(Handle environment, const void* data, size_t size, Handle* model);
using Compile = Status (*)(Handle environment, Handle model, Handle options, Handle* compiled);
using GetNumber = Status (*)(Handle owner, size_t* number);
using GetByIndex = Status (*)(Handle owner, size_t index, Handle* found);
using GetOf = Status (*)(Handle owner, Handle* found);
using GetType = Status (*)(Handle tensor, RankedTensorType* type);
using WrapMemory = Status (*)(const RankedTensorType* type, void* data, size_t size, void (*destroy)(void*), Handle* buffer);
using Run = Status (*)(Handle compiled, size_t signature, size_t n_inputs, Handle* inputs, size_t n_outputs, Handle* outputs);
using Destroy = void (*)(Handle object);
}

}  // namespace stand_in::litert
