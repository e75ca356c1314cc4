// One operation of a plan, and where its numbers lie.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "kernels.h"

namespace sslprune {

struct Geometry {
    int64_t height, width, pitch, plane;
    int64_t lanes;  // images that lie side by side, each pixel's numbers together
    // Floats that are computed of a plane: its rows and what lies between them, in whole blocks.
    int64_t pixels() const { return (height * pitch * lanes + kBlock - 1) / kBlock * kBlock; }
    bool one_number() const { return height * width * lanes == 1; }
};

// A map in an image's block of memory, or (start < 0) in the caller's image or result.
struct Place {
    int64_t start, channels;
    Geometry geometry;
};

// Where the numbers of one image are.
struct Memory {
    float* block;
    const float* image;
    float* result;

    const float* read(const Place& place) const { return place.start < 0 ? image : block + place.start; }
    float* write(const Place& place) const { return place.start < 0 ? result : block + place.start; }
};

// How a convolution is computed; all ways give the same bits.
enum class Way : int32_t { sparse, short_strips, dense };

class Step {
  public:
    virtual ~Step() = default;
    // Roughly, multiplications or copies: what is too small is not shared out.
    virtual int64_t work() const = 0;
    // Part number `part` of `parts`; all of them together are the step, in any order.
    virtual void run(const Kernels& kernels, const Memory& memory, int64_t part, int64_t parts) const = 0;
    // Settle how it is computed, if there are several ways: the fastest, where `seconds` times the one that is set; or as
    // told. At most one of them, once.
    virtual void choose_fastest(const std::function<double()>& seconds) { (void)seconds; }
    virtual void choose(Way way) { (void)way; }
    virtual Way way() const { return Way::sparse; }
};

struct ConvSpec {
    Place source, target, residual;
    bool has_residual;
    const int32_t *channel, *starts, *offsets;
    const float *values, *bias, *scale, *shift;
    int64_t rows;
    Activation activation;
};

struct PoolSpec {
    Place source, target;
    int64_t kernel[2], stride[2], padding[2], dilation[2];
};

// The share [first, last) of `count` things that part `part` of `parts` does.
struct Share {
    int64_t first, last;
    Share(int64_t count, int64_t part, int64_t parts) : first(count * part / parts), last(count * (part + 1) / parts) {}
};

std::unique_ptr<Step> conv_step(const ConvSpec& spec);
// `image` and `result`: floats from one of the caller's images or results to the next.
std::unique_ptr<Step> split_step(const Place& source, const Place& target, int64_t down, int64_t right,
                                 std::vector<int64_t> phases, int64_t image, int64_t result);
std::unique_ptr<Step> max_pool_step(const PoolSpec& spec);
std::unique_ptr<Step> average_step(const PoolSpec& spec);

}  // namespace sslprune
