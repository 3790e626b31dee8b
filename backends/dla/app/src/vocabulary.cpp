#include "vocabulary.h"

#include "base64.h"
#include "faults.h"
#include "memory.h"
#include "unicode.h"

namespace parity {
namespace {

bool is_special(const std::string& word) {
  return word.size() >= 4 && word.compare(0, 2, "<|") == 0 && word.compare(word.size() - 2, 2, "|>") == 0;
}

}  // namespace

Vocabulary::Vocabulary(const std::string& path, uint32_t size, uint32_t eot) : eot_(eot) {
  const MappedFile file(path);
  const std::string all(reinterpret_cast<const char*>(file.bytes().data), file.bytes().size);
  for (size_t start = 0; start < all.size();) {
    const size_t end = std::min(all.find('\n', start), all.size());
    std::string line = all.substr(start, end - start);
    if (!line.empty() && line.back() == '\r') line.pop_back();
    start = end + 1;
    const std::string place = path + ":" + std::to_string(words_.size() + 1);
    const size_t blank = line.find(' ');
    if (line.substr(0, blank) != std::to_string(words_.size())) {
      throw Failure(Code::kLoad, place + ": expected a line of id " + std::to_string(words_.size()));
    }
    const std::string word = blank == std::string::npos ? "" : line.substr(blank + 1);
    std::string bytes;
    const bool good = words_.size() < eot ? decode_base64(word, bytes) : is_special(word);
    if (!good) throw Failure(Code::kLoad, place + (words_.size() < eot ? ": no base64" : ": expected <|...|>"));
    words_.push_back(words_.size() < eot ? bytes : word);
  }
  if (words_.size() != size) {
    throw Failure(Code::kShape, path + ": expected " + std::to_string(size) + " lines, found " +
                                    std::to_string(words_.size()));
  }
}

std::string Vocabulary::bytes(const std::vector<int32_t>& tokens) const {
  std::string joined;
  for (const int32_t token : tokens) {
    auto id = static_cast<uint32_t>(token);
    if (fault("special_in_text") ? id >= words_.size() : id >= eot_) continue;
    if (fault("table_shifted")) id = id + 1 < eot_ ? id + 1 : id;
    std::string word = words_[id];
    if (fault("lost_blank") && !joined.empty() && word.compare(0, 1, " ") == 0) word.erase(0, 1);
    joined += fault("split_utf8") ? valid_utf8(word) : word;
  }
  return joined;
}

std::string Vocabulary::text(const std::vector<int32_t>& tokens) const { return stripped(valid_utf8(bytes(tokens))); }

}  // namespace parity
