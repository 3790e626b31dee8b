#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "graph.h"
#include "litert_abi.h"

namespace stand_in {
namespace {

using namespace litert;

[[noreturn]] void refuse(const std::string& reason) { throw std::runtime_error(reason); }

void check(Status status, const char* what) {
  if (status != kOk) refuse(std::string(what) + " gave LiteRT status " + std::to_string(status));
}

struct Library {
  void* handle = nullptr;

  template <typename Function>
  Function get(const char* name) const {
    const auto found = reinterpret_cast<Function>(dlsym(handle, name));
    if (found == nullptr) refuse(std::string("libLiteRt.so lacks ") + name + ": is it of ai-edge-litert 2.3?");
    return found;
  }
};

const Library& library() {
  static const Library loaded = [] {
    const char* path = std::getenv("PARITY_SIM_LITERT");
    if (path == nullptr) refuse("PARITY_SIM_LITERT is not set: it names libLiteRt.so of ai-edge-litert");
    Library found{dlopen(path, RTLD_NOW | RTLD_LOCAL)};
    if (found.handle == nullptr) refuse(dlerror());
    return found;
  }();
  return loaded;
}

Handle environment() {
  static const Handle made = [] {
    Handle found = nullptr;
    check(library().get<CreateEnvironment>("LiteRtCreateEnvironment")(0, nullptr, &found), "LiteRtCreateEnvironment");
    return found;
  }();
  return made;
}

Handle options() {
  const char* threads = std::getenv("PARITY_SIM_THREADS");
  const std::string toml = "num_threads = " + std::to_string(threads != nullptr ? std::max(1, std::atoi(threads)) : 2) + "\n";
  Handle made = nullptr, xnnpack = nullptr;
  check(library().get<CreateOptions>("LiteRtCreateOptions")(&made), "LiteRtCreateOptions");
  check(library().get<SetAccelerators>("LiteRtSetOptionsHardwareAccelerators")(made, kCpu), "choosing the CPU");
  const auto create = library().get<CreateOpaque>("LiteRtCreateOpaqueOptions");
  check(create("xnnpack", strdup(toml.c_str()), std::free, &xnnpack), "LiteRtCreateOpaqueOptions");
  check(library().get<AddOpaque>("LiteRtAddOpaqueOptions")(made, xnnpack), "LiteRtAddOpaqueOptions");
  return made;
}

// One side of a model: its tensors in the signature's order, and the handle of each in the graph's.
struct Side {
  std::vector<RankedTensorType> types;
  std::vector<size_t> widths;
  std::vector<size_t> handles;
};

size_t values(const RankedTensorType& type) {
  size_t count = 1;
  for (unsigned i = 0; i < type.layout.rank; ++i) count *= static_cast<size_t>(type.layout.dimensions[i]);
  return count;
}

// LiteRT runs a signature, whose tensors have an order of their own; the runtime's handles are in the graph's order.
Side side_of(Handle signature, Handle subgraph, const std::string& kind, const std::vector<Tensor>& expected) {
  const std::string in_graph = "LiteRtGetSubgraph" + kind, in_signature = "LiteRtGetSignature" + kind + "TensorByIndex";
  size_t count = 0;
  check(library().get<GetNumber>(("LiteRtGetNumSubgraph" + kind + "s").c_str())(subgraph, &count), "counting tensors");
  if (count != expected.size()) refuse("the header and the model differ in their number of tensors");
  std::vector<Handle> tensors(count);
  for (size_t i = 0; i < count; ++i) {
    check(library().get<GetByIndex>(in_graph.c_str())(subgraph, i, &tensors[i]), in_graph.c_str());
  }
  Side side;
  for (size_t i = 0; i < count; ++i) {
    Handle tensor = nullptr;
    RankedTensorType type{};
    check(library().get<GetByIndex>(in_signature.c_str())(signature, i, &tensor), in_signature.c_str());
    check(library().get<GetType>("LiteRtGetRankedTensorType")(tensor, &type), "LiteRtGetRankedTensorType");
    size_t handle = 0;
    while (handle < count && tensors[handle] != tensor) ++handle;
    if (handle == count) refuse("the model's signature names a tensor that is none of its inputs or outputs");
    if (type.element_type != expected[handle].type || values(type) != expected[handle].count) {
      refuse("the header and the model differ in a shape or a type");
    }
    side.types.push_back(type);
    side.widths.push_back(expected[handle].width);
    side.handles.push_back(handle);
  }
  return side;
}

class LiteRtGraph : public Graph {
 public:
  explicit LiteRtGraph(const Container& container) {
    if (std::memcmp(container.model() + 4, "TFL3", 4) != 0) refuse("the model is not a TFLite file");
    const auto load = library().get<ModelFromBuffer>("LiteRtCreateModelFromBuffer");
    check(load(environment(), container.model(), container.model_size(), &model_), "LiteRtCreateModelFromBuffer");
    Handle signature = nullptr, subgraph = nullptr;
    check(library().get<GetByIndex>("LiteRtGetModelSignature")(model_, 0, &signature), "LiteRtGetModelSignature");
    check(library().get<GetOf>("LiteRtGetSignatureSubgraph")(signature, &subgraph), "LiteRtGetSignatureSubgraph");
    inputs_ = side_of(signature, subgraph, "Input", container.inputs());
    outputs_ = side_of(signature, subgraph, "Output", container.outputs());
    const auto compile = library().get<Compile>("LiteRtCreateCompiledModel");
    check(compile(environment(), model_, options(), &compiled_), "LiteRtCreateCompiledModel");
  }

  ~LiteRtGraph() override {
    library().get<Destroy>("LiteRtDestroyCompiledModel")(compiled_);
    library().get<Destroy>("LiteRtDestroyModel")(model_);
  }

  int run(const std::vector<void*>& inputs, const std::vector<void*>& outputs) override {
    std::vector<Handle> in = wrap(inputs_, inputs), out = wrap(outputs_, outputs);
    const auto run = library().get<Run>("LiteRtRunCompiledModel");
    const Status status = run(compiled_, 0, in.size(), in.data(), out.size(), out.data());
    for (const auto* side : {&in, &out}) {
      for (const Handle buffer : *side) library().get<Destroy>("LiteRtDestroyTensorBuffer")(buffer);
    }
    if (status != kOk) log("ERROR: LiteRtRunCompiledModel gave status %d", status);
    return status == kOk ? kNoError : kRuntimeError;
  }

 private:
  static std::vector<Handle> wrap(const Side& side, const std::vector<void*>& memory) {
    const auto create = library().get<WrapMemory>("LiteRtCreateTensorBufferFromHostMemory");
    std::vector<Handle> wrapped;
    for (size_t i = 0; i < side.types.size(); ++i) {
      Handle buffer = nullptr;
      const RankedTensorType& type = side.types[i];
      check(create(&type, memory[side.handles[i]], values(type) * side.widths[i], nullptr, &buffer), "wrapping a buffer");
      wrapped.push_back(buffer);
    }
    return wrapped;
  }

  Handle model_ = nullptr, compiled_ = nullptr;
  Side inputs_, outputs_;
};

}  // namespace

std::unique_ptr<Graph> litert_graph(const Container& container) { return std::make_unique<LiteRtGraph>(container); }

}  // namespace stand_in
