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

}  // namespace

std::unique_ptr<Step> split_step(const Place& source, const Place& target, int64_t down, int64_t right,
                                 std::vector<int64_t> phases, int64_t image, int64_t result) {
    return std::make_unique<SplitStep>(source, target, down, right, std::move(phases), image, result);
}

}  // namespace sslprune
