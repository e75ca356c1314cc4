// Which kernels this machine can run.
#pragma once

#include <vector>

#include "kernels.h"

namespace sslprune {

// Best first; the last is the portable one.
std::vector<const Kernels*> usable_kernels();

}  // namespace sslprune
