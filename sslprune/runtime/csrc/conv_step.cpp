// A convolution: sparse, row by row; or, where too few weights are zero for that to pay, dense, with rows merged. Both sum
// in the same order, so that the choice changes no bit of the result.
#include <algorithm>
#include <limits>

#include "step.h"

namespace sslprune {
namespace {

// Products with zeros that merged rows may take for each one that counts; with more, they are not even tried.
constexpr double kMostWaste = 4.5;

// Rows' taps as groups of kMerged rows.
struct MergedTaps {
    std::vector<int32_t> starts{0}, offsets;
    std::vector<float> values;

    MergedTaps() = default;
    MergedTaps(const std::vector<Tap>& taps, const std::vector<int32_t>& row_starts) {
        const int64_t rows = static_cast<int64_t>(row_starts.size()) - 1;
        for (int64_t first = 0; first < rows; first += kMerged) {
            const int64_t count = std::min<int64_t>(kMerged, rows - first);
            int64_t at[kMerged];
            for (int64_t row = 0; row < count; ++row) at[row] = row_starts[first + row];
            for (;;) {
                int32_t next = std::numeric_limits<int32_t>::max();
                bool left = false;
                for (int64_t row = 0; row < count; ++row) {
                    if (at[row] == row_starts[first + row + 1]) continue;
                    next = std::min(next, taps[at[row]].offset);
                    left = true;
                }
                if (!left) break;
                offsets.push_back(next);
                for (int64_t row = 0; row < kMerged; ++row) {
                    const bool has = row < count && at[row] < row_starts[first + row + 1] && taps[at[row]].offset == next;
                    values.push_back(has ? taps[at[row]++].value : 0.0f);
                }
            }
            starts.push_back(static_cast<int32_t>(offsets.size()));
        }
    }
};

// The first row (or group) of a part, so that all parts have about as many taps.
int64_t row_at(const std::vector<int32_t>& starts, int64_t part, int64_t parts) {
    const int64_t rows = static_cast<int64_t>(starts.size()) - 1;
    if (part == 0 || part == parts) return part ? rows : 0;
    const int64_t wanted = (starts.back() + rows) * part / parts;
    int64_t low = 0, high = rows;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        (starts[middle] + middle < wanted ? low = middle + 1 : high = middle);
    }
    return low;
}

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
          scale_(spec.scale, spec.scale + spec.rows),
          shift_(spec.shift, spec.shift + spec.rows),
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
        return (starts_.back() + static_cast<int64_t>(bias_.size())) * pixels;
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
                           scale_.data(),
                           shift_.data(),
                           mask_.data(),
                           activation_,
                           static_cast<int64_t>(bias_.size()),
                           way_ == Way::short_strips,
                           {merged_.starts.data(), merged_.offsets.data(), merged_.values.data()}};
        const int64_t blocks = target_.geometry.pixels() / kBlock;
        const bool dense = way_ == Way::dense;
        const auto& starts = dense ? merged_.starts : starts_;
        const int64_t rows = static_cast<int64_t>(starts.size()) - 1;
        // Long planes are cut, so that each part reads every tap but its own pixels; of short ones rows are dealt out.
        const bool cut = !one_number_ && blocks >= 16 * parts;
        const int64_t first = cut ? 0 : row_at(starts, part, parts), last = cut ? rows : row_at(starts, part + 1, parts);
        const Share share(blocks, cut ? part : 0, cut ? parts : 1);
        if (one_number_)
            kernels.dot(conv, first, last);
        else
            (dense ? kernels.convolve_merged : kernels.convolve)(conv, first, last, share.first, share.last);
    }

    Way way() const override { return way_; }

    void choose_fastest(const std::function<double()>& seconds) override {
        if (one_number_ || taps_.empty()) return;
        merged_ = MergedTaps(taps_, starts_);
        const double waste = static_cast<double>(merged_.values.size()) / static_cast<double>(taps_.size());
        Way best = Way::sparse;
        double least = seconds();
        for (const Way way : {Way::short_strips, Way::dense}) {
            if (way == Way::dense && waste >= kMostWaste) continue;
            way_ = way;
            const double taken = seconds();
            if (taken < least) best = way, least = taken;
        }
        way_ = best;
        forget_others();
    }

    void choose(Way way) override {
        if (one_number_ || taps_.empty()) return;
        if (way == Way::dense) merged_ = MergedTaps(taps_, starts_);
        way_ = way;
        forget_others();
    }

  private:
    void forget_others() {
        if (way_ == Way::dense)
            taps_ = std::vector<Tap>();
        else
            merged_ = MergedTaps();
    }

    Place source_, target_, residual_;
    bool has_residual_;
    std::vector<int32_t> channel_, starts_;
    std::vector<float> bias_, scale_, shift_;
    Activation activation_;
    bool one_number_;
    std::vector<Tap> taps_;  // unless dense
    std::vector<uint32_t> mask_;
    Way way_ = Way::sparse;
    MergedTaps merged_;  // where dense
};

}  // namespace

std::unique_ptr<Step> conv_step(const ConvSpec& spec) { return std::make_unique<ConvStep>(spec); }

}  // namespace sslprune
