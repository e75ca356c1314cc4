// Copies between the caller's images and the program's planes, and of a map's every n-th pixel.
#include <algorithm>
#include <cstring>

#include "step.h"

namespace sslprune {
namespace {

class SplitStep : public Step {
  public:
    SplitStep(const Place& source, const Place& target, int64_t down, int64_t right, std::vector<int64_t> phases,
              int64_t image, int64_t result)
        : source_lane_(source.start < 0 ? image : 1),
          target_lane_(target.start < 0 ? result : 1),
          source_(source), target_(target), down_(down), right_(right), phases_(std::move(phases)) {}

    int64_t work() const override {
        return target_.channels * target_.geometry.height * target_.geometry.width * lanes();
    }

    void run(const Kernels& kernels, const Memory& memory, int64_t part, int64_t parts) const override {
        const Geometry &from = source_.geometry, &to = target_.geometry;
        const int64_t count = static_cast<int64_t>(phases_.size() / 2);
        const Share share(target_.channels, part, parts);
        for (int64_t plane = share.first; plane < share.last; ++plane) {
            const int64_t row = phases_[2 * (plane % count)], column = phases_[2 * (plane % count) + 1];
            const int64_t width = (from.width - column + right_ - 1) / right_;
            for (int64_t y = 0; y < to.height; ++y) {
                const int64_t written = row + y * down_ < from.height ? width : 0;
                const float* read = memory.read(source_) + plane / count * from.plane +
                                    ((row + y * down_) * from.pitch + column) * from.lanes;
                float* write = memory.write(target_) + plane * to.plane + y * to.pitch * to.lanes;
                if (from.lanes == to.lanes) {
                    copy(kernels, read, write, written, to.lanes);
                    std::fill(write + written * to.lanes, write + to.width * to.lanes, 0.0f);
                } else {
                    for (int64_t lane = 0; lane < lanes(); ++lane)
                        weave(read + lane * source_lane_, write + lane * target_lane_, written);
                }
            }
        }
    }

  private:
    int64_t lanes() const { return std::max(source_.geometry.lanes, target_.geometry.lanes); }

    // A row, all lanes of each pixel.
    void copy(const Kernels& kernels, const float* read, float* write, int64_t width, int64_t lanes) const {
        if (right_ == 1)
            std::memcpy(write, read, static_cast<size_t>(width * lanes) * sizeof(float));
        else if (right_ == 2 && lanes == 1)
            kernels.every_second(read, write, width);
        else
            for (int64_t x = 0; x < width; ++x)
                std::memcpy(write + x * lanes, read + x * right_ * lanes, static_cast<size_t>(lanes) * sizeof(float));
    }

    // A row of one image, where only one of the maps has them side by side.
    void weave(const float* read, float* write, int64_t width) const {
        const int64_t from = right_ * source_.geometry.lanes, to = target_.geometry.lanes;
        for (int64_t x = 0; x < width; ++x) write[to * x] = read[from * x];
        for (int64_t x = width; x < target_.geometry.width; ++x) write[to * x] = 0.0f;
    }

    // From one image's number to the next one's.
    int64_t source_lane_, target_lane_;
    Place source_, target_;
    int64_t down_, right_;
    std::vector<int64_t> phases_;
};

}  // namespace

std::unique_ptr<Step> split_step(const Place& source, const Place& target, int64_t down, int64_t right,
                                 std::vector<int64_t> phases, int64_t image, int64_t result) {
    return std::make_unique<SplitStep>(source, target, down, right, std::move(phases), image, result);
}

}  // namespace sslprune
