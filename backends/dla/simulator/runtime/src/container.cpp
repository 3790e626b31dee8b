#include "container.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <stdexcept>

#include "json.h"

namespace stand_in {
namespace {

constexpr char kMagic[] = "SIMDLA01";
constexpr size_t kHead = 12, kMaxJson = 64u << 10, kAlignment = 64;
constexpr double kMaxDimension = 1 << 24;
constexpr size_t kMaxValues = size_t{1} << 30;

[[noreturn]] void refuse(const std::string& reason) { throw std::runtime_error(reason); }

struct Type {
  const char* name;
  int number;
  size_t width;
};
constexpr Type kTypes[] = {{"float32", 1, 4}, {"int32", 2, 4},  {"uint8", 3, 1},   {"int64", 4, 8},
                           {"int16", 7, 2},   {"int8", 9, 1},   {"float16", 10, 2}};

void set_type(Tensor& tensor, const std::string& name) {
  for (const Type& type : kTypes) {
    if (name != type.name) continue;
    tensor.type = type.number;
    tensor.width = type.width;
    return;
  }
  refuse("the header holds a type that no tensor has");
}

std::vector<Tensor> tensors(const Json& list) {
  if (list.kind != Json::Kind::kArray || list.items.empty()) refuse("the header lists no inputs or no outputs");
  std::vector<Tensor> found;
  for (const Json& item : list.items) {
    Tensor tensor{1, 1};
    for (const Json& dimension : item.at("shape").items) {
      if (!(dimension.number >= 1 && dimension.number <= kMaxDimension)) refuse("the header holds an impossible shape");
      tensor.columns = static_cast<size_t>(dimension.number);
      if (tensor.count > kMaxValues / tensor.columns) refuse("the header holds an impossible shape");
      tensor.count *= tensor.columns;
    }
    set_type(tensor, item.at("dtype").text);
    found.push_back(tensor);
  }
  return found;
}

}  // namespace

void log(const char* format, ...) {
  std::va_list arguments;
  va_start(arguments, format);
  std::vfprintf(stderr, format, arguments);
  va_end(arguments);
  std::fputc('\n', stderr);
}

Container::Container(const std::string& path) {
  map(path);
  try {
    parse();
  } catch (...) {
    munmap(const_cast<uint8_t*>(data_), size_);
    throw;
  }
}

Container::~Container() { munmap(const_cast<uint8_t*>(data_), size_); }

void Container::map(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) refuse(path + ": " + std::strerror(errno));
  struct stat facts {};
  void* mapped = MAP_FAILED;
  if (fstat(fd, &facts) == 0 && S_ISREG(facts.st_mode) && facts.st_size > 0) {
    size_ = static_cast<size_t>(facts.st_size);
    mapped = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
  }
  close(fd);
  if (mapped == MAP_FAILED) refuse(path + ": cannot be mapped");
  data_ = static_cast<const uint8_t*>(mapped);
}

void Container::parse() {
  if (size_ < kHead || std::memcmp(data_, kMagic, 8) != 0) refuse("not a DLA file of the simulator");
  uint32_t length;
  std::memcpy(&length, data_ + 8, sizeof length);
  if (length > kMaxJson || length > size_ - kHead) refuse("the header is cut off, or longer than 64 KiB");
  const Json header = parse_json(reinterpret_cast<const char*>(data_) + kHead, length);
  const size_t start = (kHead + length + kAlignment - 1) / kAlignment * kAlignment;
  if (start > size_ || size_ - start < 8) refuse("the model is cut off");
  model_ = data_ + start;
  model_size_ = size_ - start;
  if (header.at("major").kind != Json::Kind::kNumber) refuse("the header names no major version");
  major_ = static_cast<int>(header.at("major").number);
  suppress_io_ = header.at("suppress_io").boolean;
  inputs_ = tensors(header.at("inputs"));
  outputs_ = tensors(header.at("outputs"));
}

}  // namespace stand_in
