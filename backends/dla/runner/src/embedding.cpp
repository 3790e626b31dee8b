#include "embedding.h"

#include <algorithm>
#include <cctype>

namespace parity {
namespace {

[[noreturn]] void refuse(const std::string& reason) {
  throw Failure(Code::kLoad, "token embedding: " + reason);
}

}  // namespace

size_t npy_offset(Bytes file, uint32_t rows, uint32_t columns) {
  if (file.size < 12 || std::memcmp(file.data, "\x93NUMPY", 6) != 0) refuse("not a .npy file");
  const uint8_t major = file.data[6];
  if (major < 1 || major > 3) refuse("version " + std::to_string(major) + " of the .npy format");
  const size_t start = major == 1 ? 10 : 12;
  size_t length = file.data[8] | size_t{file.data[9]} << 8;
  if (major > 1) length |= size_t{file.data[10]} << 16 | size_t{file.data[11]} << 24;
  if (length > file.size - start) refuse("its header is cut off");
  std::string header(reinterpret_cast<const char*>(file.data) + start, length);
  header.erase(std::remove_if(header.begin(), header.end(), [](unsigned char c) { return std::isspace(c) != 0; }),
               header.end());
  if (header.find("'descr':'<f4'") == std::string::npos) refuse("not float32: " + header.substr(0, 120));
  if (header.find("'fortran_order':False") == std::string::npos) refuse("not in C order");
  const std::string shape = "(" + std::to_string(rows) + "," + std::to_string(columns) + ")";
  if (header.find("'shape':" + shape) == std::string::npos) {
    throw Failure(Code::kShape, "token embedding: expected shape " + shape + ", found " + header.substr(0, 120));
  }
  if (file.size - start - length != size_t{rows} * columns * 4) refuse("its size does not fit its shape");
  return start + length;
}

Embedding::Embedding(const std::string& path, const Dims& dims)
    : file_(path), row_size_(size_t{dims.n_text_state} * 4) {
  table_ = file_.bytes().data + npy_offset(file_.bytes(), dims.n_vocab, dims.n_text_state);
}

}  // namespace parity
