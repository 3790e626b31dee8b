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

// Number of values of each tensor of a list; the size of the last dimension goes to `columns`.
std::vector<size_t> counts(const Json& tensors, std::vector<size_t>* columns) {
  if (tensors.kind != Json::Kind::kArray || tensors.items.empty()) refuse("the header lists no inputs or no outputs");
  std::vector<size_t> found;
  for (const Json& tensor : tensors.items) {
    size_t count = 1, last = 1;
    for (const Json& dimension : tensor.at("shape").items) {
      if (!(dimension.number >= 1 && dimension.number <= kMaxDimension)) refuse("the header holds an impossible shape");
      last = static_cast<size_t>(dimension.number);
      if (count > kMaxValues / last) refuse("the header holds an impossible shape");
      count *= last;
    }
    found.push_back(count);
    if (columns != nullptr) columns->push_back(last);
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
  inputs_ = counts(header.at("inputs"), nullptr);
  outputs_ = counts(header.at("outputs"), &output_columns_);
}

}  // namespace stand_in
