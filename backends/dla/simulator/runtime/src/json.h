// As much JSON as a container's header needs: parsed whole, bounds and depth checked.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace stand_in {

struct Json {
  enum class Kind { kNull, kBool, kNumber, kString, kArray, kObject };

  Kind kind = Kind::kNull;
  bool boolean = false;
  double number = 0;
  std::string text;
  std::vector<Json> items;
  std::map<std::string, Json> fields;

  // A field of an object; null when there is none.
  const Json& at(const std::string& name) const;
};

// Throws std::runtime_error for anything that is no JSON.
Json parse_json(const char* data, size_t size);

}  // namespace stand_in
