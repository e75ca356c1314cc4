#include "program.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <new>
#include <stdexcept>

#include "crew.h"

namespace sslprune {
namespace {

constexpr int64_t kWorthSharing = 100000;

// The share [first, last) of `count` things that part `part` of `parts` does.
struct Share {
    int64_t first, last;
    Share(int64_t count, int64_t part, int64_t parts) : first(count * part / parts), last(count * (part + 1) / parts) {}
};

class ConvStep : public Step {
  public:
    explicit ConvStep(const ConvSpec& spec)
        : source_(spec.source),
          target_(spec.target),
          residual_(spec.residual),
          has_residual_(spec.has_residual),
          channel_(spec.channel, spec.channel + spec.rows),
          starts_(spec.starts, spec.starts + spec.rows + 1),
          bias_(spec.bias, spec.bias + spec.rows),
          activation_(spec.activation),
          one_number_(spec.target.geometry.one_number()) {
        taps_.resize(static_cast<size_t>(starts_.back()));
        for (size_t tap = 0; tap < taps_.size(); ++tap) taps_[tap] = {spec.offsets[tap], spec.values[tap]};
        const Geometry& map = target_.geometry;
        const int64_t row = map.pitch * map.lanes;
        mask_.resize(static_cast<size_t>(map.pixels()));
        for (int64_t pixel = 0; pixel < map.pixels(); ++pixel)
            mask_[pixel] = pixel % row < map.width * map.lanes && pixel / row < map.height ? ~0u : 0u;
    }

    int64_t work() const override {
        const int64_t pixels = one_number_ ? 1 : target_.geometry.pixels();
        return static_cast<int64_t>(taps_.size() + bias_.size()) * pixels;
    }

    void run(const Kernels& kernels, const Memory& memory, int64_t part, int64_t parts) const override {
        const Conv conv = {memory.read(source_),
                           memory.write(target_),
                           has_residual_ ? memory.read(residual_) : nullptr,
                           target_.geometry.plane,
                           residual_.geometry.plane,
                           taps_.data(),
                           starts_.data(),
                           channel_.data(),
                           bias_.data(),
                           mask_.data(),
                           activation_};
        const int64_t rows = static_cast<int64_t>(bias_.size());
        const int64_t blocks = target_.geometry.pixels() / kBlock;
        // Long planes are cut, so that each part reads every tap but its own pixels; of short ones rows are dealt out.
        if (!one_number_ && blocks >= 16 * parts) {
            const Share share(blocks, part, parts);
            kernels.convolve(conv, 0, rows, share.first, share.last);
            return;
        }
        const int64_t first = row_at(part, parts), last = row_at(part + 1, parts);
        if (one_number_)
            kernels.dot(conv, first, last);
        else
            kernels.convolve(conv, first, last, 0, blocks);
    }

  private:
    // The first row of a part, so that all have about as many taps.
    int64_t row_at(int64_t part, int64_t parts) const {
        const int64_t rows = static_cast<int64_t>(bias_.size());
        if (part == 0 || part == parts) return part ? rows : 0;
        const int64_t wanted = (starts_.back() + rows) * part / parts;
        int64_t low = 0, high = rows;
        while (low < high) {
            const int64_t middle = (low + high) / 2;
            (starts_[middle] + middle < wanted ? low = middle + 1 : high = middle);
        }
        return low;
    }

    Place source_, target_, residual_;
    bool has_residual_;
    std::vector<int32_t> channel_, starts_;
    std::vector<float> bias_;
    Activation activation_;
    bool one_number_;
    std::vector<Tap> taps_;
    std::vector<uint32_t> mask_;
};

class SplitStep : public Step {
  public:
    // `image` and `result`: floats from one of the caller's images or results to the next.
    SplitStep(const Place& source, const Place& target, int64_t down, int64_t right, std::vector<int64_t> phases,
              int64_t image, int64_t result)
        : source_lane_(source.start < 0 ? image : 1),
          target_lane_(target.start < 0 ? result : 1),
          source_(source), target_(target), down_(down), right_(right), phases_(std::move(phases)) {}

    int64_t work() const override {
        return target_.channels * target_.geometry.height * target_.geometry.width * lanes();
    }

    void run(const Kernels&, const Memory& memory, int64_t part, int64_t parts) const override {
        const Geometry &from = source_.geometry, &to = target_.geometry;
        const int64_t count = static_cast<int64_t>(phases_.size() / 2);
        const Share share(target_.channels, part, parts);
        for (int64_t plane = share.first; plane < share.last; ++plane) {
            const int64_t row = phases_[2 * (plane % count)], column = phases_[2 * (plane % count) + 1];
            const int64_t width = (from.width - column + right_ - 1) / right_;
            for (int64_t y = 0; y < to.height; ++y) {
                const bool inside = row + y * down_ < from.height;
                for (int64_t lane = 0; lane < lanes(); ++lane) {
                    const float* read = memory.read(source_) + plane / count * from.plane + lane * source_lane_ +
                                        ((row + y * down_) * from.pitch + column) * from.lanes;
                    float* write =
                        memory.write(target_) + plane * to.plane + lane * target_lane_ + y * to.pitch * to.lanes;
                    const int64_t written = inside ? width : 0;
                    copy(read, write, written);
                    for (int64_t x = written; x < to.width; ++x) write[x * to.lanes] = 0.0f;
                }
            }
        }
    }

  private:
    int64_t lanes() const { return std::max(source_.geometry.lanes, target_.geometry.lanes); }

    void copy(const float* read, float* write, int64_t width) const {
        const int64_t from = right_ * source_.geometry.lanes, to = target_.geometry.lanes;
        if (from == 1 && to == 1)
            std::memcpy(write, read, static_cast<size_t>(width) * sizeof(float));
        else if (from == 2 && to == 1)
            for (int64_t x = 0; x < width; ++x) write[x] = read[2 * x];
        else
            for (int64_t x = 0; x < width; ++x) write[to * x] = read[from * x];
    }

    // From one image's number to the next one's.
    int64_t source_lane_, target_lane_;
    Place source_, target_;
    int64_t down_, right_;
    std::vector<int64_t> phases_;
};

class PoolStep : public Step {
  public:
    PoolStep(const PoolSpec& spec, bool max) : spec_(spec), max_(max) {}

    int64_t work() const override {
        const Geometry& map = spec_.source.geometry;
        return spec_.source.channels * map.height * map.width * map.lanes;
    }

    void run(const Kernels& kernels, const Memory& memory, int64_t part, int64_t parts) const override {
        const Geometry &from = spec_.source.geometry, &to = spec_.target.geometry;
        std::vector<float> scratch(max_ ? static_cast<size_t>(from.width * from.lanes) : 0);
        Pool pool = {memory.read(spec_.source), memory.write(spec_.target),
                     from.plane, from.pitch, from.height, from.width,
                     to.plane, to.pitch, to.height, to.width,
                     {}, {}, {}, {}, from.lanes, scratch.data()};
        for (int axis = 0; axis < 2; ++axis) {
            pool.kernel[axis] = spec_.kernel[axis];
            pool.stride[axis] = spec_.stride[axis];
            pool.padding[axis] = spec_.padding[axis];
            pool.dilation[axis] = spec_.dilation[axis];
        }
        const Share share(spec_.target.channels, part, parts);
        (max_ ? kernels.max_pool : kernels.average)(pool, share.first, share.last);
    }

  private:
    PoolSpec spec_;
    bool max_;
};

}  // namespace

// An image's memory: zero at first, since the zeros around the maps are never written.
struct Program::Block {
    explicit Block(int64_t floats)
        : floats_(static_cast<float*>(::operator new(static_cast<size_t>(floats) * sizeof(float), std::align_val_t(64)))) {
        std::memset(floats_, 0, static_cast<size_t>(floats) * sizeof(float));
    }
    ~Block() { ::operator delete(floats_, std::align_val_t(64)); }
    Block(const Block&) = delete;
    Block& operator=(const Block&) = delete;
    float* floats_;
};

Program::Program(int64_t floats, int64_t image, int64_t result, int64_t lanes, const Kernels* kernels)
    : floats_(floats), image_(image), result_(result), lanes_(lanes), kernels_(kernels) {
    if (floats < 0 || image < 1 || result < 1 || lanes < 1) throw std::out_of_range("a program needs memory");
}

void Program::check_span(int64_t first, int64_t last) const {
    if (first < 0 || last > floats_) throw std::out_of_range("a step reads or writes outside of its memory");
}

void Program::check(const Place& place, bool written) const {
    const Geometry& map = place.geometry;
    if (place.channels < 1 || map.height < 1 || map.width < 1 || map.pitch < map.width || map.plane < 1 ||
        map.lanes != (place.start < 0 ? 1 : lanes_))
        throw std::out_of_range("an impossible map");
    const int64_t last =
        (place.channels - 1) * map.plane + ((map.height - 1) * map.pitch + map.width) * map.lanes;
    if (place.start >= 0)
        check_span(place.start, place.start + last);
    else if (last > (written ? result_ : image_))
        throw std::out_of_range("a step reads or writes outside of the image or result");
}

void Program::convolve(const ConvSpec& spec) {
    check(spec.source, false);
    check(spec.target, true);
    const Geometry& map = spec.target.geometry;
    const int64_t pixels = map.one_number() ? 1 : map.pixels();
    if (spec.source.start < 0 || spec.target.start < 0) throw std::out_of_range("a convolution reads and writes maps");
    if (spec.starts[0] != 0) throw std::out_of_range("rows of taps begin at 0");
    for (int64_t row = 0; row < spec.rows; ++row) {
        if (spec.channel[row] < 0 || spec.channel[row] >= spec.target.channels || spec.starts[row + 1] < spec.starts[row])
            throw std::out_of_range("an impossible row of taps");
        const int64_t plane = spec.target.start + spec.channel[row] * map.plane;
        check_span(plane, plane + pixels);
        if (spec.has_residual) {
            if (spec.residual.start < 0) throw std::out_of_range("a residual is a map");
            const int64_t added = spec.residual.start + spec.channel[row] * spec.residual.geometry.plane;
            check_span(added, added + pixels);
        }
    }
    if (spec.starts[spec.rows] > 0) {
        const auto ends = std::minmax_element(spec.offsets, spec.offsets + spec.starts[spec.rows]);
        check_span(spec.source.start + *ends.first, spec.source.start + *ends.second + pixels);
    }
    steps_.push_back(std::make_unique<ConvStep>(spec));
}

void Program::split(const Place& source, const Place& target, int64_t down, int64_t right, std::vector<int64_t> phases) {
    check(source, false);
    check(target, true);
    const int64_t count = static_cast<int64_t>(phases.size() / 2);
    bool possible = count > 0 && phases.size() % 2 == 0 && down > 0 && right > 0 &&
                    target.channels == source.channels * count;
    for (int64_t phase = 0; possible && phase < count; ++phase) {
        const int64_t row = phases[2 * phase], column = phases[2 * phase + 1];
        possible = row >= 0 && row < down && column >= 0 && column < right &&
                   (source.geometry.width - column + right - 1) / right <= target.geometry.width;
    }
    if (!possible) throw std::out_of_range("impossible phases");
    steps_.push_back(std::make_unique<SplitStep>(source, target, down, right, std::move(phases), image_, result_));
}

void Program::max_pool(const PoolSpec& spec) {
    check(spec.source, false);
    check(spec.target, true);
    if (spec.source.channels != spec.target.channels) throw std::out_of_range("pooling changes the channels");
    steps_.push_back(std::make_unique<PoolStep>(spec, true));
}

void Program::average(const PoolSpec& spec) {
    check(spec.source, false);
    check(spec.target, true);
    if (spec.source.channels != spec.target.channels) throw std::out_of_range("pooling changes the channels");
    steps_.push_back(std::make_unique<PoolStep>(spec, false));
}

std::shared_ptr<Program::Block> Program::take() {
    {
        std::lock_guard<std::mutex> guard(lock_);
        if (!free_.empty()) {
            std::shared_ptr<Block> block = std::move(free_.back());
            free_.pop_back();
            return block;
        }
    }
    return std::make_shared<Block>(floats_);
}

void Program::give_back(std::shared_ptr<Block> block) {
    std::lock_guard<std::mutex> guard(lock_);
    free_.push_back(std::move(block));
}

void Program::run(const float* images, float* results, int64_t count, int threads) {
    const int64_t groups = count / lanes_;
    if (groups == 1 && threads > 1) {
        const std::shared_ptr<Block> block = take();
        const Memory memory = {block->floats_, images, results};
        for (const auto& step : steps_) {
            const int64_t parts = step->work() < kWorthSharing ? 1 : 2 * threads;
            run_parts(parts, threads, [&](int64_t part) { step->run(*kernels_, memory, part, parts); });
        }
        give_back(block);
        return;
    }
    run_parts(groups, threads, [&](int64_t group) {
        const std::shared_ptr<Block> block = take();
        const int64_t first = group * lanes_;
        const Memory memory = {block->floats_, images + first * image_, results + first * result_};
        for (const auto& step : steps_) step->run(*kernels_, memory, 0, 1);
        give_back(block);
    });
}

std::vector<double> Program::times(const float* images) {
    std::vector<float> result(static_cast<size_t>(result_ * lanes_));
    run(images, result.data(), lanes_, 1);
    const std::shared_ptr<Block> block = take();
    const Memory memory = {block->floats_, images, result.data()};
    // The fastest of a few turns: whatever else the machine does only ever adds.
    std::vector<double> seconds(steps_.size(), std::numeric_limits<double>::infinity());
    for (int turn = 0; turn < 5; ++turn) {
        for (size_t step = 0; step < steps_.size(); ++step) {
            const auto start = std::chrono::steady_clock::now();
            steps_[step]->run(*kernels_, memory, 0, 1);
            const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
            seconds[step] = std::min(seconds[step], taken.count());
        }
    }
    give_back(block);
    return seconds;
}

}  // namespace sslprune
