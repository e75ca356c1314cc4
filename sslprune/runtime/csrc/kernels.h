// What a set of kernels can do. There is one set an instruction set, each compiled for itself and chosen at run time.
#pragma once

#include <math.h>

#include <cstdint>
#include <limits>

namespace sslprune {

// A non-zero weight: how far from a pixel of the target's plane the number that it multiplies lies, in floats.
struct Tap {
    int32_t offset;
    float value;
};

enum class Activation : int32_t { none, relu, relu6, silu };

constexpr float kInfinity = std::numeric_limits<float>::infinity();

#if defined(__GNUC__) || defined(__clang__)
#define SSLPRUNE_PRAGMA(text) _Pragma(#text)
#define SSLPRUNE_UNROLL(times) SSLPRUNE_PRAGMA(GCC unroll times)
#else
#define SSLPRUNE_UNROLL(times)
#endif

// Planes are multiples of so many floats; work on a plane is given out in such blocks.
constexpr int64_t kBlock = 16;

// So many rows are merged where few weights are zero: each number is read once for all of them.
constexpr int kMerged = 6;

// The taps of kMerged rows together, the union of their offsets: a row that lacks one has a zero there.
struct Merged {
    const int32_t* starts;   // of each group's taps; groups + 1
    const int32_t* offsets;  // ascending, like a row's own, so that sums come out the same to the last bit
    const float* values;     // kMerged to a tap
};

struct Conv {
    const float* source;    // plane 0, pixel (0, 0)
    float* target;          // likewise
    const float* residual;  // likewise, or null; it may be the target
    int64_t target_plane;   // floats from one channel to the next
    int64_t residual_plane;
    const Tap* taps;
    const int32_t* starts;   // of each row's taps; rows + 1
    const int32_t* channel;  // of the target, by row
    const float *bias, *scale, *shift;  // by row: (bias + sum) * scale + shift
    const uint32_t* mask;    // by pixel: all ones inside of the map, 0 between its rows
    Activation activation;
    int64_t rows;
    bool short_strips;  // a third of the registers: where what the taps read of all channels leaves the nearest cache
    Merged merged;
};

struct Pool {
    const float* source;
    float* target;
    int64_t source_plane, source_pitch, source_height, source_width;
    int64_t target_plane, target_pitch, target_height, target_width;
    int64_t kernel[2], stride[2], padding[2], dilation[2];
    int64_t lanes;   // images side by side
    float* scratch;  // one row of the source
};

struct Kernels {
    const char* name;
    // Rows [first_row, last_row) of blocks [first, last) of every plane.
    void (*convolve)(const Conv&, int64_t first_row, int64_t last_row, int64_t first, int64_t last);
    // Likewise by groups of merged rows.
    void (*convolve_merged)(const Conv&, int64_t first_group, int64_t last_group, int64_t first, int64_t last);
    // Rows of a convolution whose target is one pixel.
    void (*dot)(const Conv&, int64_t first_row, int64_t last_row);
    // Channels [first, last).
    void (*max_pool)(const Pool&, int64_t first, int64_t last);
    void (*average)(const Pool&, int64_t first, int64_t last);
    // Copies numbers 0, 2, 4, ...
    void (*every_second)(const float* read, float* write, int64_t count);
};

// Null where this build has none.
const Kernels* kernels_avx512();
const Kernels* kernels_avx2();
const Kernels* kernels_neon();
const Kernels* kernels_scalar();

}  // namespace sslprune
