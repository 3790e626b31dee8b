#include "embedding.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>

namespace parity {
namespace {

// Rows of a table, as its header says; 0 where it says none.
uint32_t stated_rows(const std::string& header) {
  const std::string key = "'shape':(";
  const size_t at = header.find(key);
  if (at == std::string::npos) return 0;
  return static_cast<uint32_t>(std::strtoul(header.c_str() + at + key.size(), nullptr, 10));
}

}  // namespace

size_t npy_offset(Bytes file, const std::string& what, Rows rows, uint32_t columns) {
  const auto refuse = [&](const std::string& reason) { throw Failure(Code::kLoad, what + ": " + reason); };
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
  if (rows.or_more) rows.count = std::max(rows.count, stated_rows(header));
  const std::string shape = "(" + std::to_string(rows.count) + "," + std::to_string(columns) + ")";
  if (header.find("'shape':" + shape) == std::string::npos) {
    throw Failure(Code::kShape, what + ": expected shape " + shape + ", found " + header.substr(0, 120));
  }
  if (file.size - start - length != size_t{rows.count} * columns * 4) refuse("its size does not fit its shape");
  return start + length;
}

Embedding::Embedding(const std::string& path, const std::string& what, Rows rows, uint32_t columns)
    : file_(path), row_size_(size_t{columns} * 4) {
  table_ = file_.bytes().data + npy_offset(file_.bytes(), what, rows, columns);
}

}  // namespace parity
