// For any machine: plain C++ on four floats at a time, which compilers make vectors of where there are some.
#include "kernels.h"

namespace sslprune {
namespace scalar {

struct Vec {
    static constexpr int width = 4;
    static constexpr int strip = 8;
    static constexpr int merged = 2;
    float v[4];
    static Vec all(float x) { return {{x, x, x, x}}; }
    static Vec load(const float* p) { return {{p[0], p[1], p[2], p[3]}}; }
    void store(float* p) const {
        for (int i = 0; i < 4; ++i) p[i] = v[i];
    }
    static Vec fma(Vec a, Vec b, Vec c) {
        for (int i = 0; i < 4; ++i) c.v[i] += a.v[i] * b.v[i];
        return c;
    }
    static float fma(float a, float b, float c) { return c + a * b; }
    static Vec add(Vec a, Vec b) {
        for (int i = 0; i < 4; ++i) a.v[i] += b.v[i];
        return a;
    }
    static Vec max(Vec a, Vec b) {
        for (int i = 0; i < 4; ++i) b.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
        return b;
    }
    static Vec min(Vec a, Vec b) {
        for (int i = 0; i < 4; ++i) b.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i];
        return b;
    }
    static Vec masked(Vec a, const uint32_t* mask) {
        for (int i = 0; i < 4; ++i) a.v[i] = mask[i] ? a.v[i] : 0.0f;
        return a;
    }
};

#include "kernels_impl.h"

}  // namespace scalar

const Kernels* kernels_scalar() {
    static const Kernels set = {"scalar", scalar::convolve, scalar::convolve_merged,
                                 scalar::dot, scalar::max_pool, scalar::average, scalar::every_second};
    return &set;
}

}  // namespace sslprune
