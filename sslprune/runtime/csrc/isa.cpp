#include "isa.h"

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define SSLPRUNE_HAS(feature) __builtin_cpu_supports(feature)
#else
#define SSLPRUNE_HAS(feature) false
#endif

namespace sslprune {

std::vector<const Kernels*> usable_kernels() {
    std::vector<const Kernels*> usable;
    const auto offer = [&](const Kernels* kernels, bool runs) {
        if (kernels && runs) usable.push_back(kernels);
    };
    offer(kernels_avx512(), SSLPRUNE_HAS("avx512f"));
    offer(kernels_avx2(), SSLPRUNE_HAS("avx2") && SSLPRUNE_HAS("fma"));
    offer(kernels_neon(), true);  // every 64-bit ARM has it
    offer(kernels_scalar(), true);
    return usable;
}

}  // namespace sslprune
