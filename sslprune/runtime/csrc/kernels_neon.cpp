#include "kernels.h"

#if defined(__aarch64__)
#include <arm_neon.h>

namespace sslprune {
namespace neon {

struct Vec {
    static constexpr int width = 4;
    static constexpr int strip = 24;  // of 32 registers
    static constexpr int merged = 4;  // times kMerged
    float32x4_t v;
    static Vec all(float x) { return {vdupq_n_f32(x)}; }
    static Vec load(const float* p) { return {vld1q_f32(p)}; }
    void store(float* p) const { vst1q_f32(p, v); }
    static Vec fma(Vec a, Vec b, Vec c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
    static float fma(float a, float b, float c) { return ::fmaf(a, b, c); }
    static Vec add(Vec a, Vec b) { return {vaddq_f32(a.v, b.v)}; }
    static Vec max(Vec a, Vec b) { return {vmaxq_f32(a.v, b.v)}; }
    static Vec min(Vec a, Vec b) { return {vminq_f32(a.v, b.v)}; }
    static Vec masked(Vec a, const uint32_t* mask) {
        return {vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(a.v), vld1q_u32(mask)))};
    }
};

#include "kernels_impl.h"

}  // namespace neon

const Kernels* kernels_neon() {
    static const Kernels set = {"neon", neon::convolve, neon::convolve_merged,
                                 neon::dot, neon::max_pool, neon::average, neon::every_second};
    return &set;
}

}  // namespace sslprune
#else
const sslprune::Kernels* sslprune::kernels_neon() { return nullptr; }
#endif
