#include "runtime.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "neuron_abi.h"

namespace parity {
namespace {

using namespace neuron;

constexpr size_t kMaxTensors = 1024;  // 260 of a step with a cache of each of 32 layers, and more

template <typename Function>
Function symbol(void* library, const char* name) {
  return reinterpret_cast<Function>(dlsym(library, name));
}

template <typename Function>
Function required(void* library, const char* name) {
  const auto found = symbol<Function>(library, name);
  if (found == nullptr) throw Failure(Code::kLibrary, std::string("the runtime library lacks ") + name);
  return found;
}

void check(int code, Code kind, const std::string& what) {
  if (code == kNoError) return;
  if (code == neuron::kOutOfMemory) kind = Code::kOutOfMemory;
  throw Failure(kind, what + " gave " + std::to_string(code), code);
}

// Sizes by handle. Where the runtime cannot tell how many there are, until it refuses a handle.
std::vector<size_t> sizes(void* network, GetNumber number, GetSize size, const std::string& what) {
  size_t count = kMaxTensors;
  if (number != nullptr) check(number(network, &count), Code::kLoad, what + "Number");
  if (count > kMaxTensors) throw Failure(Code::kShape, what + "Number: " + std::to_string(count) + " tensors");
  std::vector<size_t> found;
  for (uint64_t handle = 0; handle < count; ++handle) {
    size_t bytes = 0;
    const int code = size(network, handle, &bytes);
    if (code != kNoError && number == nullptr) break;
    check(code, Code::kLoad, what + "Size");
    found.push_back(bytes);
  }
  return found;
}

class V1Network : public Network {
 public:
  V1Network(void* library, const std::string& path)
      : release_(required<Release>(library, "NeuronRuntime_release")),
        set_input_(required<V1SetInput>(library, "NeuronRuntime_setInput")),
        set_output_(required<V1SetOutput>(library, "NeuronRuntime_setOutput")),
        inference_(required<V1Inference>(library, "NeuronRuntime_inference")) {
    const EnvOptions options{kHardware, {0, 0, 0}};
    check(required<V1Create>(library, "NeuronRuntime_create")(&options, &network_), Code::kLoad,
          "NeuronRuntime_create");
    try {
      const auto load = required<V1Load>(library, "NeuronRuntime_loadNetworkFromFile");
      check(load(network_, path.c_str()), Code::kLoad, path + ": NeuronRuntime_loadNetworkFromFile");
      input_sizes_ = sizes(network_, symbol<GetNumber>(library, "NeuronRuntime_getInputNumber"),
                           required<GetSize>(library, "NeuronRuntime_getInputSize"), "NeuronRuntime_getInput");
      output_sizes_ = sizes(network_, symbol<GetNumber>(library, "NeuronRuntime_getOutputNumber"),
                            required<GetSize>(library, "NeuronRuntime_getOutputSize"), "NeuronRuntime_getOutput");
    } catch (...) {
      release_(network_);
      throw;
    }
  }
  ~V1Network() override { release_(network_); }

  void bind_input(size_t handle, void* data) override {
    check(set_input_(network_, handle, data, input_sizes_.at(handle), {kNoFd}), Code::kInference,
          "NeuronRuntime_setInput");
  }
  void bind_output(size_t handle, void* data) override {
    check(set_output_(network_, handle, data, output_sizes_.at(handle), {kNoFd}), Code::kInference,
          "NeuronRuntime_setOutput");
  }
  void run() override { check(inference_(network_), Code::kInference, "NeuronRuntime_inference"); }

 private:
  void* network_ = nullptr;
  Release release_;
  V1SetInput set_input_;
  V1SetOutput set_output_;
  V1Inference inference_;
};

class V2Network : public Network {
 public:
  V2Network(void* library, const std::string& path)
      : release_(required<Release>(library, "NeuronRuntimeV2_release")),
        run_(required<V2Run>(library, "NeuronRuntimeV2_run")) {
    const auto create = required<V2Create>(library, "NeuronRuntimeV2_create");
    check(create(path.c_str(), 1, &network_, 1), Code::kLoad, path + ": NeuronRuntimeV2_create");
    try {
      input_sizes_ = sizes(network_, symbol<GetNumber>(library, "NeuronRuntimeV2_getInputNumber"),
                           required<GetSize>(library, "NeuronRuntimeV2_getInputSize"), "NeuronRuntimeV2_getInput");
      output_sizes_ = sizes(network_, symbol<GetNumber>(library, "NeuronRuntimeV2_getOutputNumber"),
                            required<GetSize>(library, "NeuronRuntimeV2_getOutputSize"), "NeuronRuntimeV2_getOutput");
    } catch (...) {
      release_(network_);
      throw;
    }
    inputs_ = buffers(input_sizes_);
    outputs_ = buffers(output_sizes_);
  }
  ~V2Network() override { release_(network_); }

  void bind_input(size_t handle, void* data) override { inputs_.at(handle).buffer = data; }
  void bind_output(size_t handle, void* data) override { outputs_.at(handle).buffer = data; }
  void run() override {
    check(run_(network_, {inputs_.data(), outputs_.data()}), Code::kInference, "NeuronRuntimeV2_run");
  }

 private:
  static std::vector<IoBuffer> buffers(const std::vector<size_t>& sizes) {
    std::vector<IoBuffer> made;
    for (const size_t size : sizes) made.push_back({nullptr, size, kNoFd, 0, 0, 0});
    return made;
  }

  void* network_ = nullptr;
  Release release_;
  V2Run run_;
  std::vector<IoBuffer> inputs_, outputs_;
};

std::string version_of(void* library) {
  const auto get = symbol<GetVersion>(library, "NeuronRuntime_getVersion");
  uint8_t version[16] = {};  // major, minor, patch; room for a runtime that says more
  if (get == nullptr || get(version) != kNoError) return "";
  return std::to_string(version[0]) + "." + std::to_string(version[1]) + "." + std::to_string(version[2]);
}

std::string path_of(void* library, const std::string& name) {
  for (const char* known : {"NeuronRuntimeV2_create", "NeuronRuntime_create"}) {
    Dl_info info{};
    void* address = dlsym(library, known);
    if (address != nullptr && dladdr(address, &info) != 0 && info.dli_fname != nullptr) return info.dli_fname;
  }
  return name;
}

// What the linker said of each library: those that are there and were refused first, since they tell more.
std::string reasons(const std::vector<std::string>& said) {
  std::string refused, missing;
  for (const std::string& line : said) {
    const bool is_missing = line.find("No such file") != std::string::npos ||
                            (line.find("not found") != std::string::npos && line.find("namespace") == std::string::npos);
    std::string& list = is_missing ? missing : refused;
    list += (list.empty() ? "" : "; ") + line;
  }
  const std::string all = refused + (refused.empty() || missing.empty() ? "" : "; ") + missing;
  return all.size() > 1500 ? all.substr(0, 1500) + " ..." : all;
}

}  // namespace

std::vector<std::string> search_order() {
  const std::vector<std::string> names = {"libneuron_runtime.8.so", "libneuron_runtime.7.so", "libneuron_runtime.6.so",
                                          "libneuron_runtime.so"};
  std::vector<std::string> order = names;
  for (const char* folder : {"/vendor/lib64/mt8189/", "/vendor/lib64/", "/usr/lib/"}) {
    for (const std::string& name : names) order.push_back(folder + name);
  }
  return order;
}

Runtime::Runtime(const std::vector<std::string>& libraries, Api api) {
  std::vector<std::string> said;
  for (const std::string& name : libraries.empty() ? search_order() : libraries) {
    handle_ = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle_ != nullptr) {
      library_ = path_of(handle_, name);
      version_ = version_of(handle_);
      choose(api);
      return;
    }
    const char* reason = dlerror();
    said.emplace_back(reason != nullptr ? reason : name + ": refused without a reason");
  }
  throw Failure(Code::kLibrary, "no Neuron runtime: " + reasons(said));
}

void Runtime::choose(Api wanted) {
  const bool has_v2 = dlsym(handle_, "NeuronRuntimeV2_create") != nullptr;
  const bool has_v1 = dlsym(handle_, "NeuronRuntime_create") != nullptr;
  if ((wanted == Api::kV2 && !has_v2) || (wanted == Api::kV1 && !has_v1) || (!has_v1 && !has_v2)) {
    const char* lacks = wanted == Api::kV2 ? "NeuronRuntimeV2_create" : "NeuronRuntime_create";
    throw Failure(Code::kLibrary, library_ + " lacks " + lacks);
  }
  api_ = wanted == Api::kV1 || !has_v2 ? 1 : 2;
}

std::unique_ptr<Network> Runtime::load(const std::string& path) const {
  if (access(path.c_str(), R_OK) != 0) throw Failure(Code::kLoad, path + ": " + std::strerror(errno));
  if (api_ == 2) return std::make_unique<V2Network>(handle_, path);
  return std::make_unique<V1Network>(handle_, path);
}

}  // namespace parity
