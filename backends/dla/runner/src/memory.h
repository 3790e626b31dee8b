// Memory from the kernel: page-aligned buffers that cost nothing until touched, and files mapped to read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "bytes.h"

namespace parity {

class Buffer {
 public:
  Buffer() = default;
  // Zeros. Throws Failure kOutOfMemory.
  explicit Buffer(size_t size);
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    swap(other);
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer();

  uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  void swap(Buffer& other) noexcept;

  uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

class MappedFile {
 public:
  // Throws Failure kLoad.
  explicit MappedFile(const std::string& path);
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  Bytes bytes() const { return bytes_; }

 private:
  Bytes bytes_;
};

}  // namespace parity
