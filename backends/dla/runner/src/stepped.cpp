#include "stepped.h"

#include <algorithm>
#include <chrono>
#include <cstring>

namespace parity {
namespace {

uint64_t timed(Network& network) {
  const auto started = std::chrono::steady_clock::now();
  network.run();
  const auto took = std::chrono::steady_clock::now() - started;
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(took).count());
}

std::vector<float> floats(Bytes bytes) {
  std::vector<float> values(bytes.size / 4);
  std::memcpy(values.data(), bytes.data, values.size() * 4);
  return values;
}

std::vector<Port> made(const std::vector<PortForm>& forms, const std::vector<size_t>& sizes, const std::string& what) {
  if (forms.size() != sizes.size()) {
    throw Failure(Code::kShape, what + "s: expected " + std::to_string(forms.size()) + ", the DLA has " + std::to_string(sizes.size()));
  }
  std::vector<Port> ports;
  for (const PortForm& form : forms) {
    if (form.handle >= sizes.size()) throw Failure(Code::kShape, what + " " + std::to_string(form.handle) + ": the DLA has none");
    ports.emplace_back(form, sizes[form.handle], what);
  }
  return ports;
}

void require_written(const Port& port, const std::string& what) {
  if (!port.is_marked()) return;
  throw Failure(Code::kInference, what + ": the runtime reported success and did not write its whole output " + std::to_string(port.form().handle));
}

}  // namespace

Stepped::Stepped(const Runtime& runtime, const std::string& encoder, const std::string& decoder)
    : encoder_(runtime.load(encoder)), decoder_(runtime.load(decoder)) {}

void Stepped::lay_out(LayoutForm layout) {
  Ports features = made(layout.features, encoder_->input_sizes(), "encoder input");
  Ports encoder_outputs = made(layout.encoder_outputs, encoder_->output_sizes(), "encoder output");
  Ports inputs = made(layout.inputs, decoder_->input_sizes(), "decoder input");
  Ports outputs = made(layout.outputs, decoder_->output_sizes(), "decoder output");
  bind(*encoder_, features, encoder_outputs);
  bind(*decoder_, inputs, outputs);
  features_ = std::move(features);
  encoder_outputs_ = std::move(encoder_outputs);
  inputs_ = std::move(inputs);
  outputs_ = std::move(outputs);
  layout_ = std::move(layout);
  replaced_.clear();
  encoding_ = position_ = 0;
  has_stepped_ = false;
  logits_.assign(layout_.n_vocab, 0);
  size_t written = 0;
  for (const Port& port : inputs_) {
    if (port.form().role == Role::kPastKeys || port.form().role == Role::kPastValues) written += port.slot_size();
  }
  written_.assign(written, 0);
}

void Stepped::bind(Network& network, Ports& inputs, Ports& outputs) {
  for (Port& port : inputs) network.bind_input(port.form().handle, port.memory().data());
  for (Port& port : outputs) network.bind_output(port.form().handle, port.memory().data());
}

uint64_t Stepped::encode(Bytes features) {
  features_.front().write(floats(features));
  encoding_ = 0;  // should the inference fail, the old encoding is gone too
  for (Port& port : encoder_outputs_) port.mark();
  const uint64_t took = timed(*encoder_);
  for (const Port& port : encoder_outputs_) require_written(port, "encoder");
  is_own_ = false;
  encoding_ = ++last_encoding_;
  return took;
}

std::vector<float> Stepped::encoded() const {
  std::vector<float> values;
  for (const Port& port : encoder_outputs_) {
    const std::vector<float> more = port.read();
    values.insert(values.end(), more.begin(), more.end());
  }
  return values;
}

size_t Stepped::n_encoding() const {
  const Port* port = find(inputs_, Role::kEncoderOutput);
  return port == nullptr ? 0 : port->count();
}

void Stepped::set_encoding(Bytes values) {
  own_ = floats(values);
  is_own_ = true;
  encoding_ = ++last_encoding_;
}

size_t Stepped::n_cross() const {
  size_t count = 0;
  for (const Port& port : inputs_) {
    const Role role = port.form().role;
    if (role == Role::kCrossKeys || role == Role::kCrossValues || role == Role::kCross) count += port.count();
  }
  return layout_.cross == Cross::kEncoder ? count / (2 * size_t{layout_.n_layers}) : 0;
}

void Stepped::set_cross(uint32_t index, Bytes values) {
  own_cross_.resize(2 * size_t{layout_.n_layers}, std::vector<float>(n_cross()));
  own_cross_[index] = floats(values);
  is_own_ = true;
  encoding_ = ++last_encoding_;
}

void Stepped::begin() {
  position_ = 0;
  std::fill(written_.begin(), written_.end(), 0.0f);
  for (Port& port : inputs_) port.clear();
  if (Port* input = find(inputs_, Role::kEncoderOutput)) {
    if (is_own_ && own_.size() == input->count()) {
      input->write(own_);
    } else if (const Port* output = find(encoder_outputs_, Role::kEncoderOutput)) {
      copy(*output, *input);
    }
  }
  for (uint32_t index = 0; layout_.cross == Cross::kEncoder && index < 2 * layout_.n_layers; ++index) take_cross(index);
}

void Stepped::take_cross(uint32_t index) {
  const auto [port, first] = cross_in(inputs_, index);
  const auto [given, at] = cross_in(encoder_outputs_, index);
  auto* input = const_cast<Port*>(port);
  if (input == nullptr || given == nullptr) return;
  if (is_own_ && index < own_cross_.size()) return input->write_block(first, own_cross_[index].size(), own_cross_[index].data());
  if (!given->form().same_bytes(input->form())) {
    const std::vector<float> values = given->read_block(at, n_cross());
    input->write_block(first, values.size(), values.data());
  } else if (first == 0) {
    copy(*given, *input);  // with all its layers
  }
}

size_t Stepped::n_token_row() const {
  return layout_.token == TokenForm::kEmbedding ? find(inputs_, Role::kToken)->count() : 0;
}

size_t Stepped::n_position_row() const {
  return layout_.position == PositionForm::kRow ? find(inputs_, Role::kPosition)->count() : 0;
}

uint64_t Stepped::feed(int32_t token, const std::vector<float>& token_row, const std::vector<float>& position_row) {
  if (layout_.token == TokenForm::kEmbedding) {
    find(inputs_, Role::kToken)->write(token_row);
  } else {
    set_number(Role::kToken, static_cast<uint32_t>(token), layout_.token == TokenForm::kOneHot);
  }
  set_position(position_row);
  set_mask();
  for (Port& port : outputs_) port.mark();
  has_stepped_ = true;
  const uint64_t took = timed(*decoder_);
  for (const Port& port : outputs_) require_written(port, "decoder");
  keep();
  const Port* logits = find(outputs_, Role::kLogits);
  if (logits->count() == logits_.size()) {
    logits->read(logits_.data());
  } else {
    logits_ = logits->read_block(0, logits_.size());
  }
  position_ += 1;
  return took;
}

void Stepped::rewind(uint32_t count) {
  position_ -= count;
  if (layout_.update == Update::kShift && count > 0) {
    for (Port& port : inputs_) {
      if (port.form().role == Role::kPastKeys || port.form().role == Role::kPastValues) port.roll(count);
    }
  }
  if (layout_.cross != Cross::kCached || position_ > 0) return;
  for (Port& port : inputs_) {
    if (port.form().role == Role::kCrossKeys || port.form().role == Role::kCrossValues) port.clear();
  }
}

std::vector<float> Stepped::cross(uint32_t index) const {
  const bool is_given = has_stepped_ && cross_in(outputs_, 0).first != nullptr;
  if (!is_given && layout_.cross != Cross::kEncoder) return {};
  const auto [port, first] = cross_in(is_given ? outputs_ : inputs_, index);
  if (port == nullptr) return {};
  const size_t layers = port->form().layer != kNone ? 1 : port->form().role == Role::kCross ? 2 * size_t{layout_.n_layers} : layout_.n_layers;
  return port->read_block(first, port->count() / layers);
}

void Stepped::fill(float value) {
  const bool shifts = layout_.update == Update::kShift;
  for (Port& port : inputs_) {
    if (port.form().role != Role::kPastKeys && port.form().role != Role::kPastValues) continue;
    port.fill_slots(shifts ? 0 : position_, shifts ? layout_.slots - position_ : layout_.slots, value);
  }
}

void Stepped::replace(uint32_t which, const std::vector<float>& values) {
  Port& own = inputs_.at(which);
  const uint32_t handle = own.form().handle;
  decoder_->bind_input(handle, own.memory().data());
  replaced_.remove_if([&](const Port& port) { return port.form().handle == handle; });
  if (values.empty()) return;
  replaced_.emplace_back(own.form(), own.memory().size(), "decoder input");
  if (values.size() == 1) {
    replaced_.back().fill(values[0]);
  } else {
    replaced_.back().write(values);
  }
  decoder_->bind_input(handle, replaced_.back().memory().data());
}

const Port* Stepped::find(const Ports& ports, Role role, uint32_t layer) const {
  for (const Port& port : ports) {
    if (port.form().role == role && port.form().layer == layer) return &port;
  }
  return nullptr;
}

Port* Stepped::find(Ports& ports, Role role, uint32_t layer) {
  return const_cast<Port*>(static_cast<const Stepped*>(this)->find(ports, role, layer));
}

void Stepped::set_number(Role role, uint32_t place, bool one_hot) {
  Port* port = find(inputs_, role);
  if (!one_hot) {
    port->fill(static_cast<float>(place));  // whole numbers below 2^24, which float32 holds exactly
    return;
  }
  std::vector<float> row(port->count());
  if (place < row.size()) row[place] = 1;
  port->write(row);
}

void Stepped::set_position(const std::vector<float>& row) {
  if (layout_.position == PositionForm::kRow) find(inputs_, Role::kPosition)->write(row);
  if (layout_.position == PositionForm::kIndex) set_number(Role::kPosition, position_, false);
  if (layout_.position == PositionForm::kOneHot) set_number(Role::kPosition, position_, true);
  if (const Port* slot = find(inputs_, Role::kSlot)) set_number(Role::kSlot, position_, slot->count() > 1);
}

void Stepped::set_mask() {
  Port* port = find(inputs_, Role::kMask);
  if (port == nullptr) return;
  std::vector<float> mask(port->count(), layout_.closed);
  if (layout_.update == Update::kShift) {
    const size_t open = position_ + (layout_.current != Current::kOutside ? 1u : 0u);
    std::fill(mask.end() - static_cast<std::ptrdiff_t>(std::min(open, mask.size())), mask.end(), layout_.open);
  } else {
    const size_t open = position_ + (layout_.current == Current::kSlot ? 1u : 0u);
    std::fill(mask.begin(), mask.begin() + static_cast<std::ptrdiff_t>(std::min(open, mask.size())), layout_.open);
    if (layout_.current == Current::kLast) mask[layout_.slots] = layout_.open;
  }
  port->write(mask);
}

void Stepped::keep() {
  for (Port& past : inputs_) {
    const bool is_key = past.form().role == Role::kPastKeys;
    if (!is_key && past.form().role != Role::kPastValues) continue;
    if (layout_.update == Update::kOutside) {
      const std::vector<float> row = find(outputs_, is_key ? Role::kNewKeys : Role::kNewValues, past.form().layer)->read();
      past.write_slot(position_, row.data());
      note(past, row);
    } else {
      copy(*find(outputs_, is_key ? Role::kKeys : Role::kValues, past.form().layer), past);
      note(past, past.read_slot(layout_.update == Update::kShift ? layout_.slots - 1 : position_));
    }
  }
  if (layout_.cross == Cross::kCached && position_ == 0) keep_cross();
}

void Stepped::note(const Port& past, const std::vector<float>& row) {
  const size_t of_layer = written_.size() / (2 * size_t{layout_.n_layers});
  const size_t first = past.form().role == Role::kPastKeys ? 0 : layout_.n_layers;
  const size_t at = (first + (past.form().layer == kNone ? 0 : past.form().layer)) * of_layer;
  for (size_t i = 0; i < row.size() && at + i < written_.size(); ++i) written_[at + i] = row[i];
}

void Stepped::keep_cross() {
  for (Port& port : inputs_) {
    if (port.form().role != Role::kCrossKeys && port.form().role != Role::kCrossValues) continue;
    if (const Port* given = find(outputs_, port.form().role, port.form().layer)) copy(*given, port);
  }
}

void Stepped::copy(const Port& from, Port& to) const {
  if (from.form().same_bytes(to.form())) {
    std::memcpy(to.memory().data(), from.memory().data(), to.memory().size());
  } else {
    to.write(from.read());
  }
}

std::pair<const Port*, size_t> Stepped::cross_in(const Ports& ports, uint32_t index) const {
  const uint32_t layer = index % layout_.n_layers;
  const bool is_key = index < layout_.n_layers;
  for (const Port& port : ports) {
    const Role role = port.form().role;
    if (role == Role::kCross) return {&port, port.count() / (2 * size_t{layout_.n_layers}) * index};
    if (role != (is_key ? Role::kCrossKeys : Role::kCrossValues)) continue;
    if (port.form().layer == layer) return {&port, 0};
    if (port.form().layer == kNone) return {&port, port.count() / layout_.n_layers * layer};
  }
  return {nullptr, 0};
}

}  // namespace parity
