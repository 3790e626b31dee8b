#include "memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace parity {

Buffer::Buffer(size_t size) : size_(size) {
  if (size == 0) return;
  void* mapped = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) {
    throw Failure(Code::kOutOfMemory, "no memory for a buffer of " + std::to_string(size) + " bytes");
  }
  data_ = static_cast<uint8_t*>(mapped);
}

Buffer::~Buffer() {
  if (data_ != nullptr) munmap(data_, size_);
}

void Buffer::swap(Buffer& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
}

MappedFile::MappedFile(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw Failure(Code::kLoad, path + ": " + std::strerror(errno));
  struct stat facts {};
  void* mapped = MAP_FAILED;
  if (fstat(fd, &facts) == 0 && S_ISREG(facts.st_mode) && facts.st_size > 0) {
    mapped = mmap(nullptr, static_cast<size_t>(facts.st_size), PROT_READ, MAP_PRIVATE, fd, 0);
  }
  close(fd);
  if (mapped == MAP_FAILED) throw Failure(Code::kLoad, path + ": empty, or not a file that can be mapped");
  bytes_ = {static_cast<const uint8_t*>(mapped), static_cast<size_t>(facts.st_size)};
}

MappedFile::~MappedFile() { munmap(const_cast<uint8_t*>(bytes_.data), bytes_.size); }

}  // namespace parity
