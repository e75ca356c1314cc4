#include "isa.h"

#if defined(_MSC_VER) && defined(_M_X64)
#include <intrin.h>
#endif

namespace sslprune {
namespace {

struct Machine {
    bool avx2 = false, avx512 = false;
};

#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
Machine machine() {
    return {__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"), __builtin_cpu_supports("avx512f") != 0};
}
#elif defined(_MSC_VER) && defined(_M_X64)
Machine machine() {
    int basic[4], extended[4];
    __cpuidex(basic, 1, 0);
    __cpuidex(extended, 7, 0);
    const bool fma = basic[2] >> 12 & 1, saves = basic[2] >> 27 & 1;
    // What the processor has counts only if the system saves its registers.
    const unsigned long long saved = saves ? _xgetbv(0) : 0;
    return {fma && (extended[1] >> 5 & 1) && (saved & 0x6) == 0x6, (extended[1] >> 16 & 1) && (saved & 0xE6) == 0xE6};
}
#else
Machine machine() { return {}; }
#endif

}  // namespace

std::vector<const Kernels*> usable_kernels() {
    static const Machine here = machine();
    std::vector<const Kernels*> usable;
    const auto offer = [&](const Kernels* kernels, bool runs) {
        if (kernels && runs) usable.push_back(kernels);
    };
    offer(kernels_avx512(), here.avx512);
    offer(kernels_avx2(), here.avx2);
    offer(kernels_neon(), true);  // every 64-bit ARM has it
    offer(kernels_scalar(), true);
    return usable;
}

}  // namespace sslprune
