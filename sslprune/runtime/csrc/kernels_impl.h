// The kernels, written once over a vector type `Vec`; included by one file an instruction set, inside of a namespace of
// its own. Nothing inline from the standard library may be used here: the linker keeps one copy of such a function for
// the whole module, and it could be the one compiled for instructions that the machine lacks.

static inline float activated(float x, Activation activation) {
    switch (activation) {
        case Activation::relu:
            return 0.0f > x ? 0.0f : x;  // this way round, not-a-number stays what it is
        case Activation::relu6:
            x = 0.0f > x ? 0.0f : x;
            return 6.0f < x ? 6.0f : x;
        case Activation::silu:
            return x / (1.0f + __builtin_expf(-x));
        default:
            return x;
    }
}

static inline Vec activated(Vec x, Activation activation) {
    switch (activation) {
        case Activation::relu:
            return Vec::max(Vec::all(0.0f), x);
        case Activation::relu6:
            return Vec::min(Vec::all(6.0f), Vec::max(Vec::all(0.0f), x));
        case Activation::silu: {
            float numbers[Vec::width];
            x.store(numbers);
            for (int i = 0; i < Vec::width; ++i) numbers[i] = activated(numbers[i], activation);
            return Vec::load(numbers);
        }
        default:
            return x;
    }
}

// S vectors of every row's plane, summed up in S registers.
template <int S>
static void strip(const Conv& conv, int64_t first_row, int64_t last_row, int64_t pixel) {
    const float* source = conv.source + pixel;
    const uint32_t* mask = conv.mask + pixel;
    for (int64_t row = first_row; row < last_row; ++row) {
        Vec sum[S];
        const Vec bias = Vec::all(conv.bias[row]);
#pragma GCC unroll 32
        for (int s = 0; s < S; ++s) sum[s] = bias;
        const Tap* last = conv.taps + conv.starts[row + 1];
        for (const Tap* tap = conv.taps + conv.starts[row]; tap != last; ++tap) {
            const Vec value = Vec::all(tap->value);
            const float* read = source + tap->offset;
#pragma GCC unroll 32
            for (int s = 0; s < S; ++s) sum[s] = Vec::fma(value, Vec::load(read + s * Vec::width), sum[s]);
        }
        const int64_t channel = conv.channel[row];
        if (conv.residual) {
            const float* residual = conv.residual + channel * conv.residual_plane + pixel;
#pragma GCC unroll 32
            for (int s = 0; s < S; ++s) sum[s] = Vec::add(sum[s], Vec::load(residual + s * Vec::width));
        }
        float* target = conv.target + channel * conv.target_plane + pixel;
        if (conv.activation == Activation::relu) {
#pragma GCC unroll 32
            for (int s = 0; s < S; ++s)
                Vec::masked(activated(sum[s], Activation::relu), mask + s * Vec::width).store(target + s * Vec::width);
        } else {
            for (int s = 0; s < S; ++s)
                Vec::masked(activated(sum[s], conv.activation), mask + s * Vec::width).store(target + s * Vec::width);
        }
    }
}

template <int S>
static void strip_of(int64_t vectors, const Conv& conv, int64_t first_row, int64_t last_row, int64_t pixel) {
    if constexpr (S > 0) {
        if (vectors == S)
            strip<S>(conv, first_row, last_row, pixel);
        else
            strip_of<S - 1>(vectors, conv, first_row, last_row, pixel);
    }
}

static void convolve(const Conv& conv, int64_t first_row, int64_t last_row, int64_t first, int64_t last) {
    constexpr int64_t each = kBlock / Vec::width;
    int64_t vector = first * each;
    const int64_t end = last * each;
    // Strips of nearly equal length: a short one at the end would read every tap for few sums.
    for (int64_t strips = (end - vector + Vec::strip - 1) / Vec::strip; strips > 0; --strips) {
        const int64_t length = (end - vector + strips - 1) / strips;
        strip_of<Vec::strip>(length, conv, first_row, last_row, vector * Vec::width);
        vector += length;
    }
}

static void dot(const Conv& conv, int64_t first_row, int64_t last_row) {
    for (int64_t row = first_row; row < last_row; ++row) {
        float sum[4] = {conv.bias[row], 0.0f, 0.0f, 0.0f};
        int32_t at = conv.starts[row];
        const int32_t last = conv.starts[row + 1];
        for (; at + 4 <= last; at += 4)
            for (int i = 0; i < 4; ++i) sum[i] += conv.taps[at + i].value * conv.source[conv.taps[at + i].offset];
        for (; at < last; ++at) sum[0] += conv.taps[at].value * conv.source[conv.taps[at].offset];
        float total = (sum[0] + sum[1]) + (sum[2] + sum[3]);
        const int64_t channel = conv.channel[row];
        if (conv.residual) total += conv.residual[channel * conv.residual_plane];
        conv.target[channel * conv.target_plane] = activated(total, conv.activation);
    }
}

static inline float larger(float a, float b) { return (b > a || b != b) ? b : a; }

static void max_pool(const Pool& pool, int64_t first, int64_t last) {
    float* tallest = pool.scratch;
    const int64_t lanes = pool.lanes, width = pool.source_width, row_length = width * lanes;
    for (int64_t channel = first; channel < last; ++channel) {
        const float* source = pool.source + channel * pool.source_plane;
        for (int64_t y = 0; y < pool.target_height; ++y) {
            for (int64_t x = 0; x < row_length; ++x) tallest[x] = -__builtin_inff();
            for (int64_t k = 0; k < pool.kernel[0]; ++k) {
                const int64_t row = y * pool.stride[0] - pool.padding[0] + k * pool.dilation[0];
                if (row < 0 || row >= pool.source_height) continue;
                const float* read = source + row * pool.source_pitch * lanes;
                for (int64_t x = 0; x < row_length; ++x) tallest[x] = larger(tallest[x], read[x]);
            }
            float* target = pool.target + channel * pool.target_plane + y * pool.target_pitch * lanes;
            for (int64_t x = 0; x < pool.target_width * lanes; ++x) target[x] = -__builtin_inff();
            for (int64_t k = 0; k < pool.kernel[1]; ++k) {
                const int64_t shift = k * pool.dilation[1] - pool.padding[1], step = pool.stride[1];
                int64_t from = 0, to = pool.target_width;
                while (from < to && from * step + shift < 0) ++from;
                while (to > from && (to - 1) * step + shift >= width) --to;
                if (lanes == 1) {
                    for (int64_t x = from; x < to; ++x) target[x] = larger(target[x], tallest[x * step + shift]);
                    continue;
                }
                for (int64_t x = from; x < to; ++x) {
                    const float* read = tallest + (x * step + shift) * lanes;
                    for (int64_t lane = 0; lane < lanes; ++lane)
                        target[x * lanes + lane] = larger(target[x * lanes + lane], read[lane]);
                }
            }
        }
    }
}

// The mean over one window, in double precision.
static float mean(const Pool& pool, const float* first, int64_t height, int64_t width) {
    double sum = 0.0;
    for (int64_t row = 0; row < height; ++row)
        for (int64_t column = 0; column < width; ++column)
            sum += first[(row * pool.source_pitch + column) * pool.lanes];
    return static_cast<float>(sum / static_cast<double>(height * width));
}

static void average(const Pool& pool, int64_t first, int64_t last) {
    const int64_t lanes = pool.lanes;
    for (int64_t channel = first; channel < last; ++channel) {
        const float* source = pool.source + channel * pool.source_plane;
        float* target = pool.target + channel * pool.target_plane;
        for (int64_t y = 0; y < pool.target_height; ++y) {
            const int64_t top = y * pool.source_height / pool.target_height;
            const int64_t bottom = ((y + 1) * pool.source_height + pool.target_height - 1) / pool.target_height;
            for (int64_t x = 0; x < pool.target_width; ++x) {
                const int64_t left = x * pool.source_width / pool.target_width;
                const int64_t right = ((x + 1) * pool.source_width + pool.target_width - 1) / pool.target_width;
                const float* corner = source + (top * pool.source_pitch + left) * lanes;
                for (int64_t lane = 0; lane < lanes; ++lane)
                    target[(y * pool.target_pitch + x) * lanes + lane] =
                        mean(pool, corner + lane, bottom - top, right - left);
            }
        }
    }
}
