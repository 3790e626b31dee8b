#include "model.h"

#include <cmath>

#include "base64.h"
#include "json.h"

namespace parity {
namespace {

using stand_in::Json;

constexpr size_t kMaxFile = 1 << 22, kMaxValues = 1 << 28;  // bytes, values of a tensor

Json parsed(const std::string& path) {
  const MappedFile file(path);
  if (file.bytes().size > kMaxFile) throw Failure(Code::kLoad, path + ": too large for what it should be");
  try {
    Json json = stand_in::parse_json(reinterpret_cast<const char*>(file.bytes().data), file.bytes().size);
    if (json.kind == Json::Kind::kObject) return json;
  } catch (const std::runtime_error& error) {
    throw Failure(Code::kLoad, path + ": " + error.what());
  }
  throw Failure(Code::kLoad, path + ": expected a JSON object");
}

// The fields of one object, whose errors name the file.
class Fields {
 public:
  Fields(const Json& json, std::string path) : json_(json), path_(std::move(path)) {}

  uint32_t number(const std::string& name, uint32_t least = 0) const {
    return checked(json_.at(name), name, least);
  }
  int32_t id(const std::string& name) const { return static_cast<int32_t>(number(name)); }
  std::string text(const std::string& name) const {
    const Json& value = json_.at(name);
    if (value.kind != Json::Kind::kString || value.text.empty()) refuse(name, "a text");
    return value.text;
  }
  std::vector<int32_t> ids(const std::string& name) const {
    std::vector<int32_t> values;
    const Json& list = json_.at(name);
    if (list.kind == Json::Kind::kNull) return values;
    if (list.kind != Json::Kind::kArray) refuse(name, "a list of ids");
    for (const Json& item : list.items) values.push_back(static_cast<int32_t>(checked(item, name, 0)));
    return values;
  }
  std::map<std::string, int32_t> languages() const {
    std::map<std::string, int32_t> ids;
    const Json& object = json_.at("languages");
    if (object.kind != Json::Kind::kObject) refuse("languages", "an object of codes and ids");
    for (const auto& [code, id] : object.fields) ids[code] = static_cast<int32_t>(checked(id, "languages", 0));
    return ids;
  }
  std::optional<LayoutForm> layout(const std::string& name) const {
    if (!has(name)) return std::nullopt;
    std::string bytes;
    if (!decode_base64(text(name), bytes)) refuse(name, "base64");
    try {
      return parse_layout({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
    } catch (const Failure& failure) {
      throw Failure(Code::kLoad, path_ + ": \"" + name + "\": " + failure.what());
    }
  }
  Fields object(const std::string& name) const {
    if (json_.at(name).kind != Json::Kind::kObject) refuse(name, "an object");
    return Fields(json_.at(name), path_);
  }
  bool has(const std::string& name) const { return json_.at(name).kind != Json::Kind::kNull; }

 private:
  [[noreturn]] void refuse(const std::string& name, const std::string& expected) const {
    throw Failure(Code::kLoad, path_ + ": \"" + name + "\": expected " + expected);
  }
  uint32_t checked(const Json& value, const std::string& name, uint32_t least) const {
    const bool whole = value.kind == Json::Kind::kNumber && value.number == std::floor(value.number);
    if (!whole || value.number < least || value.number > 1e6) {
      refuse(name, "a whole number from " + std::to_string(least) + " to 1000000");
    }
    return static_cast<uint32_t>(value.number);
  }

  const Json& json_;
  std::string path_;
};

Dims dims_of(const Fields& fields) {
  return {fields.number("n_mels", 1),        fields.number("n_frames", 1),   fields.number("n_audio_ctx", 1),
          fields.number("n_audio_state", 1), fields.number("n_text_ctx", 1), fields.number("n_text_state", 1),
          fields.number("n_vocab", 1)};
}

void require_inside(const std::string& path, const Model& model, const std::vector<int32_t>& ids) {
  for (const int32_t id : ids) {
    if (static_cast<uint32_t>(id) < model.dims.n_vocab) continue;
    throw Failure(Code::kBadRequest, path + ": id " + std::to_string(id) + " is outside a model of " +
                                         std::to_string(model.dims.n_vocab));
  }
}

}  // namespace

Model read_model(const std::string& folder) {
  const std::string path = folder + "/model.json";
  const Json json = parsed(path);
  const Fields fields(json, path), files = fields.object("files"), special = fields.object("special");
  Model model;
  model.dims = dims_of(fields);
  const Dims& d = model.dims;
  for (const size_t values : {d.features(), d.encoding(), d.embeddings(), d.logits()}) {
    if (values > kMaxValues) throw Failure(Code::kLoad, path + ": dimensions of a model that is too large");
  }
  model.vocabulary_size = fields.number("vocabulary", 1);
  model.paths = {folder + "/" + files.text("encoder"), folder + "/" + files.text("decoder"),
                 folder + "/" + files.text("token_embedding")};
  model.filters = folder + "/" + files.text("mel_filters");
  model.vocabulary = folder + "/" + files.text("vocabulary");
  if (files.has("position_embedding")) model.positions = folder + "/" + files.text("position_embedding");
  model.layout = fields.layout("steps");
  model.sot = special.id("sot");
  model.eot = special.id("eot");
  model.transcribe = special.id("transcribe");
  model.translate = special.id("translate");
  model.no_timestamps = special.id("no_timestamps");
  model.no_speech = special.id("no_speech");
  model.languages = fields.languages();
  std::vector<int32_t> ids = {model.sot, model.eot, model.transcribe, model.translate, model.no_timestamps};
  for (const auto& [code, id] : model.languages) ids.push_back(id);
  require_inside(path, model, ids);
  return model;
}

Rules read_rules(const std::string& path, const Model& model) {
  Rules rules;
  try {
    const Json json = parsed(path);
    const Fields fields(json, path);
    rules.suppress = fields.ids("suppress");
    rules.suppress_first = fields.ids("suppress_first");
    rules.prompt = fields.ids("prompt");
    if (fields.has("max_tokens")) rules.max_tokens = fields.number("max_tokens");
  } catch (const Failure& failure) {
    throw Failure(Code::kBadRequest, failure.what());
  }
  for (const auto* ids : {&rules.suppress, &rules.suppress_first, &rules.prompt}) require_inside(path, model, *ids);
  return rules;
}

}  // namespace parity
