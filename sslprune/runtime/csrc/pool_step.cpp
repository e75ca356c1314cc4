// Pooling: the largest number of a window, or the mean.
#include "step.h"

namespace sslprune {
namespace {

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

std::unique_ptr<Step> max_pool_step(const PoolSpec& spec) { return std::make_unique<PoolStep>(spec, true); }
std::unique_ptr<Step> average_step(const PoolSpec& spec) { return std::make_unique<PoolStep>(spec, false); }

}  // namespace sslprune
