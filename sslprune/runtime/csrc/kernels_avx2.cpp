#include "kernels.h"

#if defined(__AVX2__) && (defined(__FMA__) || defined(_MSC_VER))
#include <immintrin.h>

namespace sslprune {
namespace avx2 {

struct Vec {
    static constexpr int width = 8;
    static constexpr int strip = 12;  // of 16 registers
    static constexpr int merged = 2;  // times kMerged
    __m256 v;
    static Vec all(float x) { return {_mm256_set1_ps(x)}; }
    static Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
    void store(float* p) const { _mm256_storeu_ps(p, v); }
    static Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
    static float fma(float a, float b, float c) { return ::fmaf(a, b, c); }
    static Vec add(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
    // Of a number and not-a-number, x86 takes the second.
    static Vec max(Vec a, Vec b) { return {_mm256_max_ps(a.v, b.v)}; }
    static Vec min(Vec a, Vec b) { return {_mm256_min_ps(a.v, b.v)}; }
    static Vec masked(Vec a, const uint32_t* mask) {
        return {_mm256_and_ps(a.v, _mm256_loadu_ps(reinterpret_cast<const float*>(mask)))};
    }
};

#include "kernels_impl.h"

}  // namespace avx2

const Kernels* kernels_avx2() {
    static const Kernels set = {"avx2", avx2::convolve, avx2::convolve_merged,
                                 avx2::dot, avx2::max_pool, avx2::average, avx2::every_second};
    return &set;
}

}  // namespace sslprune
#else
const sslprune::Kernels* sslprune::kernels_avx2() { return nullptr; }
#endif
