// A decoder with a KV cache, one token a run: cache, mask and position are kept here and never leave the device.
//
// The same as `Core` of backends/split/stepping.py, which runs such files on the host.
#pragma once

#include <list>
#include <memory>
#include <string>
#include <vector>

#include "layout.h"
#include "runtime.h"

namespace parity {

class Stepped {
 public:
  // Throws Failure: what loading gives.
  Stepped(const Runtime& runtime, const std::string& encoder, const std::string& decoder);

  const Network& encoder() const { return *encoder_; }
  const Network& decoder() const { return *decoder_; }
  // Throws Failure kShape: sizes that are not those of the files, or a tensor without a place.
  void lay_out(LayoutForm layout);
  bool is_laid_out() const { return !inputs_.empty(); }
  const LayoutForm& layout() const { return layout_; }

  size_t n_features() const { return features_.front().count(); }
  // float32 [n_features], may be unaligned. Microseconds of the inference. Throws Failure.
  uint64_t encode(Bytes features);
  // All outputs of the encoder, in the order of LAYOUT, each in our order.
  std::vector<float> encoded() const;
  // Another stage's encoder output, float32; 0 numbers where the decoder takes none.
  size_t n_encoding() const;
  void set_encoding(Bytes values);
  // Keys (index below the layers), or values, of cross attention of one layer, where the encoder gives them.
  size_t n_cross() const;
  void set_cross(uint32_t index, Bytes values);
  // Of what begin() starts on, from 1 on; 0 while there is none.
  uint32_t encoding() const { return encoding_; }

  void begin();
  uint32_t position() const { return position_; }
  // Numbers of a row that is looked up outside; 0 where the file takes none.
  size_t n_token_row() const;
  size_t n_position_row() const;
  // Microseconds of the inference. Throws Failure, also where the logits were not written to their end.
  uint64_t feed(int32_t token, const std::vector<float>& token_row, const std::vector<float>& position_row);
  // Of the last feed: float32 [n_vocab].
  const std::vector<float>& logits() const { return logits_; }
  void rewind(uint32_t count);
  // What the last feed wrote: keys of all layers, then values.
  std::vector<float> written() const { return written_; }
  // Keys or values of cross attention of one layer, as the file gave them, or takes them; nothing where it is mute.
  std::vector<float> cross(uint32_t index) const;
  void fill(float value);
  // Feed other numbers for one input from now on, one everywhere or all of them; none: the right ones again.
  void replace(uint32_t which, const std::vector<float>& values);
  size_t n_inputs() const { return inputs_.size(); }
  size_t n_numbers(uint32_t which) const { return inputs_.at(which).count(); }
  // Numbers that written() has.
  size_t n_written() const { return written_.size(); }

 private:
  using Ports = std::vector<Port>;
  void bind(Network& network, Ports& inputs, Ports& outputs);
  const Port* find(const Ports& ports, Role role, uint32_t layer = kNone) const;
  Port* find(Ports& ports, Role role, uint32_t layer = kNone);
  void set_number(Role role, uint32_t place, bool one_hot);
  void set_position(const std::vector<float>& row);
  void set_mask();
  void keep();
  void note(const Port& past, const std::vector<float>& row);
  void keep_cross();
  void take_cross(uint32_t index);
  void copy(const Port& from, Port& to) const;
  // Where a layer's keys or values of cross attention are: the port, and the first number in it.
  std::pair<const Port*, size_t> cross_in(const Ports& ports, uint32_t index) const;

  std::unique_ptr<Network> encoder_, decoder_;
  LayoutForm layout_;
  Ports features_, encoder_outputs_, inputs_, outputs_;
  std::list<Port> replaced_;
  std::vector<float> own_;                      // another stage's encoder output
  std::vector<std::vector<float>> own_cross_;  // by index
  bool is_own_ = false;
  uint32_t encoding_ = 0, last_encoding_ = 0;
  bool has_stepped_ = false;
  std::vector<float> logits_, written_;

 protected:
  uint32_t position_ = 0;  // tokens that were fed
};

}  // namespace parity
