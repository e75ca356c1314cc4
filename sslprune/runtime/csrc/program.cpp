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
constexpr double kLong = 1e-3;  // seconds

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
    steps_.push_back(conv_step(spec));
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
    steps_.push_back(split_step(source, target, down, right, std::move(phases), image_, result_));
}

void Program::max_pool(const PoolSpec& spec) {
    check(spec.source, false);
    check(spec.target, true);
    if (spec.source.channels != spec.target.channels) throw std::out_of_range("pooling changes the channels");
    steps_.push_back(max_pool_step(spec));
}

void Program::average(const PoolSpec& spec) {
    check(spec.source, false);
    check(spec.target, true);
    if (spec.source.channels != spec.target.channels) throw std::out_of_range("pooling changes the channels");
    steps_.push_back(average_step(spec));
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

// Runs steps by themselves, on one thread, after all of them once.
class Program::Stopwatch {
  public:
    Stopwatch(Program& program, const float* images)
        : program_(program),
          result_(static_cast<size_t>(program.result_ * program.lanes_)),
          block_((program.run(images, result_.data(), program.lanes_, 1), program.take())),
          memory_{block_->floats_, images, result_.data()} {}
    ~Stopwatch() { program_.give_back(block_); }
    Stopwatch(const Stopwatch&) = delete;
    Stopwatch& operator=(const Stopwatch&) = delete;

    double seconds(const Step& step) const {
        const auto start = std::chrono::steady_clock::now();
        step.run(*program_.kernels_, memory_, 0, 1);
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }

    // The fastest of three: whatever else the machine does only ever adds. Two are enough of what takes long.
    double fastest(const Step& step) const {
        const double best = std::min(seconds(step), seconds(step));
        return best > kLong ? best : std::min(best, seconds(step));
    }

  private:
    Program& program_;
    std::vector<float> result_;
    std::shared_ptr<Block> block_;
    Memory memory_;
};

void Program::tune(const float* images) {
    const Stopwatch watch(*this, images);
    for (const auto& step : steps_) step->choose_fastest([&] { return watch.fastest(*step); });
}

void Program::choose(const std::vector<Way>& ways) {
    if (ways.size() != steps_.size()) throw std::out_of_range("a way is needed for each step");
    for (size_t step = 0; step < steps_.size(); ++step) steps_[step]->choose(ways[step]);
}

std::vector<Way> Program::ways() const {
    std::vector<Way> found;
    for (const auto& step : steps_) found.push_back(step->way());
    return found;
}

std::vector<double> Program::times(const float* images) {
    const Stopwatch watch(*this, images);
    std::vector<double> seconds(steps_.size(), std::numeric_limits<double>::infinity());
    // Turn by turn, so that a step finds the caches as the others leave them.
    for (int turn = 0; turn < 3; ++turn)
        for (size_t step = 0; step < steps_.size(); ++step)
            seconds[step] = std::min(seconds[step], watch.seconds(*steps_[step]));
    return seconds;
}

}  // namespace sslprune
