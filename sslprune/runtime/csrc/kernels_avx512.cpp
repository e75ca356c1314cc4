#include "kernels.h"

#ifdef __AVX512F__
#include <immintrin.h>

namespace sslprune {
namespace avx512 {

struct Vec {
    static constexpr int width = 16;
    static constexpr int strip = 24;  // of 32 registers
    static constexpr int merged = 4;  // times kMerged
    __m512 v;
    static Vec all(float x) { return {_mm512_set1_ps(x)}; }
    static Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
    void store(float* p) const { _mm512_storeu_ps(p, v); }
    static Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
    static float fma(float a, float b, float c) { return ::fmaf(a, b, c); }
    static Vec add(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
    // Of a number and not-a-number, x86 takes the second.
    static Vec max(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
    static Vec min(Vec a, Vec b) { return {_mm512_min_ps(a.v, b.v)}; }
    static Vec masked(Vec a, const uint32_t* mask) {
        return {_mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(a.v), _mm512_loadu_si512(mask)))};
    }
};

#include "kernels_impl.h"

}  // namespace avx512

const Kernels* kernels_avx512() {
    static const Kernels set = {"avx512", avx512::convolve, avx512::convolve_merged,
                                 avx512::dot, avx512::max_pool, avx512::average, avx512::every_second};
    return &set;
}

}  // namespace sslprune
#else
const sslprune::Kernels* sslprune::kernels_avx512() { return nullptr; }
#endif
