// The Python module: arrays in, arrays out, and the interpreter free for others meanwhile.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <optional>
#include <string>

#include "isa.h"
#include "program.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace sslprune {
namespace {

template <typename T>
using Array = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Images = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Results = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
// start, channels, height, width, pitch, plane, lanes
using Numbers = std::array<int64_t, 7>;
using Pair = std::array<int64_t, 2>;

Place place(const Numbers& n) { return {n[0], n[1], {n[2], n[3], n[4], n[5], n[6]}}; }

Activation activation(const std::string& name) {
    if (name.empty()) return Activation::none;
    if (name == "relu") return Activation::relu;
    if (name == "relu6") return Activation::relu6;
    if (name == "silu") return Activation::silu;
    throw nb::value_error("unknown activation");
}

std::vector<std::string> isas() {
    std::vector<std::string> names;
    for (const Kernels* kernels : usable_kernels()) names.emplace_back(kernels->name);
    return names;
}

const Kernels* named(const std::string& isa) {
    for (const Kernels* kernels : usable_kernels())
        if (isa == kernels->name) return kernels;
    throw nb::value_error("this machine cannot run these instructions");
}

void convolve(Program& program, const Numbers& source, const Numbers& target, const std::optional<Numbers>& residual,
              Array<int32_t> channel, Array<int32_t> starts, Array<int32_t> offsets, Array<float> values,
              Array<float> bias, Array<float> scale, Array<float> shift, const std::string& act) {
    const size_t rows = bias.shape(0);
    if (channel.shape(0) != rows || scale.shape(0) != rows || shift.shape(0) != rows || starts.shape(0) != rows + 1 || offsets.shape(0) != values.shape(0) ||
        starts.data()[rows] != static_cast<int64_t>(offsets.shape(0)))
        throw nb::value_error("arrays of different lengths");
    program.convolve({place(source), place(target), residual ? place(*residual) : Place{}, residual.has_value(),
                      channel.data(), starts.data(), offsets.data(), values.data(), bias.data(), scale.data(), shift.data(),
                      static_cast<int64_t>(rows), activation(act)});
}

PoolSpec pool(const Numbers& source, const Numbers& target, const Pair& kernel, const Pair& stride, const Pair& padding,
              const Pair& dilation) {
    return {place(source),
            place(target),
            {kernel[0], kernel[1]},
            {stride[0], stride[1]},
            {padding[0], padding[1]},
            {dilation[0], dilation[1]}};
}

void run(Program& program, Images images, Results results, int threads) {
    if (images.shape(0) != results.shape(0) || images.shape(0) % program.lanes() != 0 || static_cast<int64_t>(images.shape(1)) != program.image() ||
        static_cast<int64_t>(results.shape(1)) != program.result())
        throw nb::value_error("images or results of the wrong size");
    nb::gil_scoped_release release;
    program.run(images.data(), results.data(), static_cast<int64_t>(images.shape(0)), threads);
}

const float* for_all_lanes(const Program& program, const Array<float>& images) {
    if (static_cast<int64_t>(images.shape(0)) != program.image() * program.lanes())
        throw nb::value_error("images of the wrong size");
    return images.data();
}

}  // namespace
}  // namespace sslprune

NB_MODULE(_kernels, module) {
    using namespace sslprune;
    module.def("isas", &isas, "Sets of instructions that this machine can run, best first.");
    nb::enum_<Way>(module, "Way", "How a convolution is computed; all ways give the same bits.")
        .value("sparse", Way::sparse)
        .value("short_strips", Way::short_strips)
        .value("dense", Way::dense);
    nb::class_<Program>(module, "Program")
        .def("__init__",
             [](Program* self, int64_t floats, int64_t image, int64_t result, int64_t lanes, const std::string& isa) {
                 new (self) Program(floats, image, result, lanes, named(isa));
             },
             "floats"_a, "image"_a, "result"_a, "lanes"_a, "isa"_a)
        .def("convolve", &convolve, "source"_a, "target"_a, "residual"_a.none(), "channel"_a, "starts"_a, "offsets"_a,
             "values"_a, "bias"_a, "scale"_a, "shift"_a, "activation"_a)
        .def("split",
             [](Program& self, const Numbers& source, const Numbers& target, const Pair& stride,
                std::vector<int64_t> phases) {
                 self.split(place(source), place(target), stride[0], stride[1], std::move(phases));
             },
             "source"_a, "target"_a, "stride"_a, "phases"_a)
        .def("max_pool",
             [](Program& self, const Numbers& source, const Numbers& target, const Pair& kernel, const Pair& stride,
                const Pair& padding, const Pair& dilation) {
                 self.max_pool(pool(source, target, kernel, stride, padding, dilation));
             },
             "source"_a, "target"_a, "kernel"_a, "stride"_a, "padding"_a, "dilation"_a)
        .def("average",
             [](Program& self, const Numbers& source, const Numbers& target) {
                 self.average(pool(source, target, {1, 1}, {1, 1}, {0, 0}, {1, 1}));
             },
             "source"_a, "target"_a)
        .def("run", &run, "images"_a, "results"_a, "threads"_a)
        .def("tune",
             [](Program& self, Array<float> images) {
                 const float* numbers = for_all_lanes(self, images);
                 nb::gil_scoped_release release;
                 self.tune(numbers);
             },
             "images"_a)
        .def("choose", &Program::choose, "ways"_a)
        .def("times",
             [](Program& self, Array<float> images) {
                 const float* numbers = for_all_lanes(self, images);
                 nb::gil_scoped_release release;
                 return self.times(numbers);
             },
             "images"_a)
        .def_prop_ro("ways", &Program::ways)
        .def_prop_ro("isa", &Program::isa);
}
