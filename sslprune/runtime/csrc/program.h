// A planned network that can be run. Built once, step by step, then only read: any number of threads may run it at once.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
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

class Step {
  public:
    virtual ~Step() = default;
    // Roughly, multiplications or copies: what is too small is not shared out.
    virtual int64_t work() const = 0;
    // Part number `part` of `parts`; all of them together are the step, in any order.
    virtual void run(const Kernels& kernels, const Memory& memory, int64_t part, int64_t parts) const = 0;
};

struct ConvSpec {
    Place source, target, residual;
    bool has_residual;
    const int32_t *channel, *starts, *offsets;
    const float *values, *bias;
    int64_t rows;
    Activation activation;
};

struct PoolSpec {
    Place source, target;
    int64_t kernel[2], stride[2], padding[2], dilation[2];
};

class Program {
  public:
    // Runs `lanes` images at once in `floats` of memory; images and results of so many floats each.
    Program(int64_t floats, int64_t image, int64_t result, int64_t lanes, const Kernels* kernels);

    // Each throws std::out_of_range for what lies outside of the memory.
    void convolve(const ConvSpec& spec);
    void split(const Place& source, const Place& target, int64_t down, int64_t right, std::vector<int64_t> phases);
    void max_pool(const PoolSpec& spec);
    void average(const PoolSpec& spec);

    // Images and results one behind the other, a multiple of the lanes. Several of these are each one thread's work; a
    // single one is shared.
    void run(const float* images, float* results, int64_t count, int threads);
    // Seconds of each step for the images of all lanes on one thread: the fastest of a few runs.
    std::vector<double> times(const float* images);

    int64_t lanes() const { return lanes_; }
    int64_t image() const { return image_; }
    int64_t result() const { return result_; }
    const char* isa() const { return kernels_->name; }

  private:
    struct Block;
    std::shared_ptr<Block> take();
    void give_back(std::shared_ptr<Block> block);
    void check(const Place& place, bool written) const;
    void check_span(int64_t first, int64_t last) const;

    int64_t floats_, image_, result_, lanes_;
    const Kernels* kernels_;
    std::vector<std::unique_ptr<Step>> steps_;
    std::mutex lock_;
    std::vector<std::shared_ptr<Block>> free_;
};

}  // namespace sslprune
