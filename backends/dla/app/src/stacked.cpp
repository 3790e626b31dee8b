#include "stacked.h"

#include <algorithm>

namespace parity {
namespace {

using Sizes = std::vector<size_t>;

constexpr size_t kInputs = 6, kOutputs = 3;  // without the two of cross attention, which no graph reads
constexpr float kClosed = -1e9f;

// Sizes of both files, as they would be with tensors of `width` bytes a number.
class Guess {
 public:
  Guess(const Dims& dims, Kind kind, size_t slots, size_t layers)
      : d_(dims), kind_(kind), slots_(static_cast<uint32_t>(slots)), layers_(static_cast<uint32_t>(layers)) {}

  LayoutForm form(size_t n_inputs, size_t n_outputs) const {
    const uint32_t state = d_.n_text_state, audio = d_.n_audio_ctx;
    const std::vector<Axis> row = {{state, 1}}, rows = stack({layers_, state});
    const std::vector<Axis> encoding = stack({audio, d_.n_audio_state}), cross = stack({layers_, audio, state});
    const std::vector<Axis> cache = stack({layers_, slots_, state});
    LayoutForm form;
    form.position = PositionForm::kRow;
    form.current = Current::kLast;
    form.closed = kClosed;
    form.slots = slots_;
    form.n_vocab = d_.n_vocab;
    form.n_layers = layers_;
    form.features = {port(0, Role::kFeatures, stack({d_.n_mels, d_.n_frames}))};
    form.encoder_outputs = {port(0, Role::kEncoderOutput, encoding)};
    form.inputs = {port(0, Role::kToken, row),         port(1, Role::kEncoderOutput, encoding),
                   port(2, Role::kPastKeys, cache, 1), port(3, Role::kPastValues, cache, 1),
                   port(4, Role::kPosition, row),      port(5, Role::kMask, {{slots_ + 1, 1}})};
    form.outputs = {port(0, Role::kLogits, {{d_.n_vocab, 1}}), port(1, Role::kNewKeys, rows),
                    port(2, Role::kNewValues, rows)};
    add_cross(form.inputs, n_inputs, cross);
    add_cross(form.outputs, n_outputs, cross);
    return form;
  }

 private:
  static std::vector<Axis> stack(const std::vector<uint32_t>& sizes) {
    std::vector<Axis> axes;
    uint32_t stride = 1;
    for (size_t i = sizes.size(); i-- > 0;) {
      axes.insert(axes.begin(), {sizes[i], stride});
      stride *= sizes[i];
    }
    return axes;
  }

  PortForm port(uint32_t handle, Role role, const std::vector<Axis>& axes, uint32_t slot_axis = kNone) const {
    return {handle, role, kNone, kind_, 0, 0, axes, slot_axis};
  }

  void add_cross(std::vector<PortForm>& ports, size_t count, const std::vector<Axis>& axes) const {
    for (const Role role : {Role::kCrossKeys, Role::kCrossValues}) {
      if (ports.size() < count) ports.push_back(port(static_cast<uint32_t>(ports.size()), role, axes));
    }
  }

  const Dims& d_;
  Kind kind_;
  uint32_t slots_, layers_;
};

bool fit(const std::vector<PortForm>& ports, const Sizes& sizes) {
  const auto same = [](const PortForm& form, size_t bytes) { return form.count() * width(form.kind) == bytes; };
  return std::equal(ports.begin(), ports.end(), sizes.begin(), sizes.end(), same);
}

std::string listed(const Sizes& sizes) {
  std::string text;
  for (const size_t size : sizes) text += (text.empty() ? "" : ", ") + std::to_string(size);
  return text;
}

}  // namespace

LayoutForm stacked(const Network& encoder, const Network& decoder, const Model& model) {
  const Sizes &inputs = decoder.input_sizes(), &outputs = decoder.output_sizes();
  for (const Kind kind : {Kind::kFloat32, Kind::kFloat16}) {
    if (inputs.size() < kInputs || outputs.size() < kOutputs || inputs[5] < 2 * width(kind)) break;
    const size_t slots = inputs[5] / width(kind) - 1;
    const size_t layers = inputs[2] / width(kind) / slots / model.dims.n_text_state;
    if (layers == 0 || layers > 256 || slots > model.dims.n_text_ctx) continue;
    LayoutForm form = Guess(model.dims, kind, slots, layers).form(inputs.size(), outputs.size());
    const bool is_decoder = fit(form.inputs, inputs) && fit(form.outputs, outputs);
    const bool is_encoder = fit(form.features, encoder.input_sizes()) && fit(form.encoder_outputs, encoder.output_sizes());
    if (is_decoder && is_encoder) return form;
  }
  throw Failure(Code::kShape, model.paths.decoder + ": model.json states no layout (\"steps\"), and the sizes are not those of `stacked`: inputs of " +
                                  listed(inputs) + " bytes, outputs of " + listed(outputs));
}

}  // namespace parity
