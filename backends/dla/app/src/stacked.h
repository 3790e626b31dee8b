// The layout `stacked`, which the original project has: told by sizes, where model.json does not say a layout.
#pragma once

#include "layout.h"
#include "model.h"
#include "runtime.h"

namespace parity {

// The layout of these files. Throws Failure kShape where their sizes, of float32 or float16, are not those of `stacked`.
LayoutForm stacked(const Network& encoder, const Network& decoder, const Model& model);

}  // namespace parity
