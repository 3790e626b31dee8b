#include "layout.h"

#include <algorithm>
#include <cmath>
#include <string>

namespace parity {
namespace {

constexpr uint32_t kMaxTensors = 1024, kMaxRank = 6, kMaxAxis = 1u << 24, kMaxLayers = 256;

[[noreturn]] void refuse(const std::string& text) { throw Failure(Code::kBadRequest, "LAYOUT: " + text); }

template <typename Word>
Word word(Reader& reader, uint32_t last, const char* what) {
  const auto value = reader.number<uint32_t>();
  if (value > last) refuse(std::string(what) + " is " + std::to_string(value) + ", at most " + std::to_string(last));
  return static_cast<Word>(value);
}

uint32_t size(Reader& reader, uint32_t most, const char* what) {
  const auto value = reader.number<uint32_t>();
  if (value == 0 || value > most) refuse(std::string(what) + " is " + std::to_string(value));
  return value;
}

PortForm port(Reader& reader, uint32_t n_layers) {
  PortForm form;
  form.handle = reader.number<uint32_t>();
  form.role = word<Role>(reader, kRoles - 1, "a role");
  form.layer = reader.number<uint32_t>();
  if (form.layer != kNone && form.layer >= n_layers) refuse("layer " + std::to_string(form.layer) + " of a tensor");
  form.kind = word<Kind>(reader, kKinds - 1, "a type");
  form.scale = reader.number<double>();
  form.zero_point = reader.number<int32_t>();
  if (!std::isfinite(form.scale) || form.scale < 0) refuse("a scale is not a number of 0 or more");
  const auto rank = word<uint32_t>(reader, kMaxRank, "a rank");
  form.slot_axis = reader.number<uint32_t>();
  if (form.slot_axis != kNone && form.slot_axis >= rank) refuse("the slots are none of the axes");
  for (uint32_t i = 0; i < rank; ++i) {
    Axis axis;
    axis.size = size(reader, kMaxAxis, "an axis");
    axis.stride = reader.number<uint32_t>();
    form.axes.push_back(axis);
  }
  return form;
}

std::vector<PortForm> side(Reader& reader, uint32_t n_layers) {
  std::vector<PortForm> ports;
  for (auto n = word<uint32_t>(reader, kMaxTensors, "a number of tensors"); n > 0; --n) {
    ports.push_back(port(reader, n_layers));
    for (size_t i = 0; i + 1 < ports.size(); ++i) {
      const bool same_role = ports[i].role == ports.back().role && ports[i].layer == ports.back().layer;
      if (ports[i].handle == ports.back().handle || same_role) refuse("a tensor is there twice");
    }
  }
  return ports;
}

size_t numbers(const std::vector<PortForm>& ports, Role role) {
  size_t count = 0;
  for (const PortForm& form : ports) count += form.role == role ? form.count() : 0;
  return count;
}

bool has(const std::vector<PortForm>& ports, Role role) { return numbers(ports, role) > 0; }

void require(bool holds, const char* what) {
  if (!holds) refuse(what);
}

// The caches, and what is written into them: sizes that have to agree before anything is copied.
void check_cache(const LayoutForm& layout, Role past, Role fresh, Role whole) {
  const size_t held = numbers(layout.inputs, past);
  require(held > 0, "no cache among the inputs");
  for (const PortForm& form : layout.inputs) {
    if (form.role != past) continue;
    require(form.slot_axis != kNone && form.axes[form.slot_axis].size == layout.slots, "a cache without its slots");
    const bool outside = layout.update == Update::kOutside;
    const auto given = std::find_if(layout.outputs.begin(), layout.outputs.end(), [&](const PortForm& other) {
      return other.role == (outside ? fresh : whole) && other.layer == form.layer;
    });
    require(given != layout.outputs.end(), "no output for a cache");
    require(given->count() == (outside ? form.count() / layout.slots : form.count()), "an output of another size than its cache");
  }
  require(held % (size_t{layout.slots} * layout.n_layers) == 0, "a cache that is not of all layers");
}

void check_mask(const LayoutForm& layout) {
  const size_t mask = numbers(layout.inputs, Role::kMask);
  require((mask > 0) == (layout.current != Current::kNoMask), "a mask without its form, or a form without a mask");
  if (mask > 0) require(mask == layout.slots + (layout.current == Current::kLast ? 1u : 0u), "a mask of another length than the slots");
}

void check_cross(const LayoutForm& layout) {
  const bool is_encoders = layout.cross == Cross::kEncoder;
  require(is_encoders || has(layout.inputs, Role::kEncoderOutput), "no input for the encoder's output");
  require(numbers(layout.encoder_outputs, Role::kEncoderOutput) == numbers(layout.inputs, Role::kEncoderOutput) || is_encoders,
          "the encoder's output is of another size than the decoder takes");
  for (const Role role : {Role::kCrossKeys, Role::kCrossValues, Role::kCross}) {
    if (is_encoders) {
      require(numbers(layout.inputs, role) == numbers(layout.encoder_outputs, role), "cross attention of another size than the encoder gives");
    }
    require(numbers(layout.inputs, role) % layout.n_layers == 0, "cross attention that is not of all layers");
    require(numbers(layout.outputs, role) % layout.n_layers == 0, "cross attention that is not of all layers");
  }
}

// What is kept from the first step on goes from an output into the input of the same role and layer.
void check_kept(const LayoutForm& layout) {
  for (const PortForm& form : layout.inputs) {
    if (form.role != Role::kCrossKeys && form.role != Role::kCrossValues) continue;
    const bool is_given = std::any_of(layout.outputs.begin(), layout.outputs.end(), [&](const PortForm& other) {
      return other.role == form.role && other.layer == form.layer && other.count() == form.count();
    });
    require(is_given, "cross attention that the file does not give as it takes it");
  }
}

void check(const LayoutForm& layout) {
  require(layout.features.size() == 1, "no input of the encoder");
  require(has(layout.inputs, Role::kToken), "no input for the token");
  require(layout.position == PositionForm::kNone || has(layout.inputs, Role::kPosition), "no input for the position");
  require(numbers(layout.outputs, Role::kLogits) >= layout.n_vocab, "no logits of the vocabulary");
  check_cache(layout, Role::kPastKeys, Role::kNewKeys, Role::kKeys);
  check_cache(layout, Role::kPastValues, Role::kNewValues, Role::kValues);
  check_mask(layout);
  check_cross(layout);
  if (layout.cross == Cross::kCached) check_kept(layout);
}

}  // namespace

LayoutForm parse_layout(Bytes payload) {
  Reader reader(payload);
  LayoutForm layout;
  layout.token = word<TokenForm>(reader, 2, "the form of tokens");
  layout.position = word<PositionForm>(reader, 3, "the form of positions");
  layout.update = word<Update>(reader, 2, "who writes the cache");
  layout.cross = word<Cross>(reader, 2, "who owns cross attention");
  layout.current = word<Current>(reader, 3, "the form of the mask");
  layout.open = reader.number<float>();
  layout.closed = reader.number<float>();
  layout.slots = size(reader, kMaxAxis, "the number of slots");
  layout.n_vocab = size(reader, kMaxAxis, "the vocabulary");
  layout.n_layers = size(reader, kMaxLayers, "the number of layers");
  layout.features = side(reader, layout.n_layers);
  layout.encoder_outputs = side(reader, layout.n_layers);
  layout.inputs = side(reader, layout.n_layers);
  layout.outputs = side(reader, layout.n_layers);
  reader.finish();
  check(layout);
  return layout;
}

}  // namespace parity
