// Plans that `record.py` wrote, run without Python: every set of kernels against what torch computed, then by eight
// threads at once. For sanitizers, which find Python and torch noisy, and for machines that have neither.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "isa.h"
#include "program.h"

using namespace sslprune;

namespace {

constexpr int kCallers = 8;

struct Reader {
    std::ifstream file;

    std::string word() {
        std::string word;
        file >> word;
        return word;
    }
    int64_t number() { return std::stoll(word()); }
    std::vector<int32_t> ints() {
        std::vector<int32_t> found(static_cast<size_t>(number()));
        for (int32_t& each : found) each = static_cast<int32_t>(number());
        return found;
    }
    std::vector<int64_t> longs() {
        std::vector<int64_t> found(static_cast<size_t>(number()));
        for (int64_t& each : found) each = number();
        return found;
    }
    std::vector<float> floats() {
        std::vector<float> found(static_cast<size_t>(number()));
        for (float& each : found) {
            const uint32_t bits = static_cast<uint32_t>(number());
            std::memcpy(&each, &bits, sizeof bits);
        }
        return found;
    }
    Place place() {
        const std::vector<int64_t> n = longs();
        return {n[0], n[1], {n[2], n[3], n[4], n[5], n[6]}};
    }
    void pair(int64_t* to) {
        const std::vector<int64_t> n = longs();
        to[0] = n[0];
        to[1] = n[1];
    }
};

Activation activation(const std::string& name) {
    if (name == "relu") return Activation::relu;
    if (name == "relu6") return Activation::relu6;
    if (name == "silu") return Activation::silu;
    return Activation::none;
}

void convolve(Reader& in, Program& program) {
    ConvSpec spec = {};
    spec.source = in.place();
    spec.target = in.place();
    const std::streampos here = in.file.tellg();
    spec.has_residual = in.word() != "-";
    if (spec.has_residual) {
        in.file.seekg(here);
        spec.residual = in.place();
    }
    const std::vector<int32_t> channel = in.ints(), starts = in.ints(), offsets = in.ints();
    const std::vector<float> values = in.floats(), bias = in.floats(), scale = in.floats(), shift = in.floats();
    spec.channel = channel.data();
    spec.starts = starts.data();
    spec.offsets = offsets.data();
    spec.values = values.data();
    spec.bias = bias.data();
    spec.scale = scale.data();
    spec.shift = shift.data();
    spec.rows = static_cast<int64_t>(bias.size());
    spec.activation = activation(in.word());
    program.convolve(spec);
}

void pool(Reader& in, Program& program, bool max) {
    PoolSpec spec = {};
    spec.source = in.place();
    spec.target = in.place();
    if (!max) return program.average(spec);
    for (int64_t* pair : {spec.kernel, spec.stride, spec.padding, spec.dilation}) in.pair(pair);
    program.max_pool(spec);
}

// Whether all that is computed is right, and the same whoever computes it.
bool check(Program& program, const std::vector<float>& images, const std::vector<float>& expected, float tolerance) {
    const int64_t count = static_cast<int64_t>(images.size()) / program.image();
    std::vector<float> found(expected.size());
    program.run(images.data(), found.data(), count, 1);
    for (size_t i = 0; i < found.size(); ++i)
        if (!(std::fabs(found[i] - expected[i]) <= tolerance)) {
            std::fprintf(stderr, "%s: %g instead of %g\n", program.isa(), found[i], expected[i]);
            return false;
        }
    for (const double seconds : program.times(images.data()))
        if (!(seconds >= 0)) return false;
    std::vector<std::thread> callers;
    std::vector<int> same(kCallers, 1);
    for (int caller = 0; caller < kCallers; ++caller)
        callers.emplace_back([&, caller] {
            for (int call = 0; call < 4; ++call) {
                std::vector<float> mine(found.size());
                // One group of images is shared out; of several each is one thread's.
                const int64_t some = call % 2 ? count : program.lanes();
                program.run(images.data(), mine.data(), some, 1 + (caller + call) % 3);
                same[caller] &= !std::memcmp(mine.data(), found.data(), some * program.result() * sizeof(float));
            }
        });
    for (std::thread& caller : callers) caller.join();
    for (const int each : same)
        if (!each) return std::fprintf(stderr, "%s: threads differ\n", program.isa()), false;
    return true;
}

}  // namespace

int main(int count, char** arguments) {
    if (count < 2) return std::fprintf(stderr, "usage: replay plans.txt [how many sets of kernels]\n"), 2;
    int64_t sets = count > 2 ? std::stoll(arguments[2]) : 99;
    int plans = 0;
    for (const Kernels* kernels : usable_kernels()) {
        if (--sets < 0) break;
        for (const std::optional<Way> way :
             {std::optional(Way::sparse), std::optional(Way::short_strips), std::optional(Way::dense), std::optional<Way>()}) {
            Reader in{std::ifstream(arguments[1])};
            std::unique_ptr<Program> program;
            for (std::string word = in.word(); !word.empty(); word = in.word()) {
                if (word == "program") {
                    const int64_t floats = in.number(), image = in.number(), result = in.number(), lanes = in.number();
                    program = std::make_unique<Program>(floats, image, result, lanes, kernels);
                } else if (word == "convolve") {
                    convolve(in, *program);
                } else if (word == "split") {
                    const Place source = in.place(), target = in.place();
                    int64_t stride[2];
                    in.pair(stride);
                    program->split(source, target, stride[0], stride[1], in.longs());
                } else if (word == "max_pool" || word == "average") {
                    pool(in, *program, word == "max_pool");
                } else if (word == "tune") {
                    const std::vector<float> images = in.floats();
                    if (way)
                        program->choose(std::vector<Way>(program->ways().size(), *way));
                    else
                        program->tune(images.data());
                } else if (word == "run") {
                    const std::vector<float> images = in.floats(), expected = in.floats(), tolerance = in.floats();
                    if (!check(*program, images, expected, tolerance[0])) return 1;
                    ++plans;
                } else {
                    return std::fprintf(stderr, "unknown word %s\n", word.c_str()), 2;
                }
            }
        }
        std::printf("%s ", kernels->name);
    }
    std::printf(": %d plans right, alone and by %d threads at once\n", plans, kCallers);
    return plans ? 0 : 1;
}
