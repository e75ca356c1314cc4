// A planned network that can be run. Built once, step by step, then only read: any number of threads may run it at once.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "step.h"

namespace sslprune {

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
    // One of them once, after the last step: settles how each is computed, by timing on these images for all lanes; or
    // the ways of another program of the same network.
    void tune(const float* images);
    void choose(const std::vector<Way>& ways);
    std::vector<Way> ways() const;
    // Seconds of each step for the images of all lanes on one thread: the fastest of a few runs.
    std::vector<double> times(const float* images);

    int64_t lanes() const { return lanes_; }
    int64_t image() const { return image_; }
    int64_t result() const { return result_; }
    const char* isa() const { return kernels_->name; }

  private:
    struct Block;
    class Stopwatch;
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
